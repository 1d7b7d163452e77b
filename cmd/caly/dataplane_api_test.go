package main

import (
	"bytes"
	"testing"
	"time"

	"github.com/caly-dev/caly/internal/keyring"
)

// TestDerived verifies that a derived key follows the current ring, and does not exist without one.
func TestDerived(t *testing.T) {
	var ring *keyring.Ring
	key := derived(func() *keyring.Ring { return ring }, keyring.PurposeMail)
	if got := key(); got != nil {
		t.Errorf("without a ring there is the key %x", got)
	}
	for range 2 {
		ring = keyring.New(time.Now())
		for range 2 {
			if !bytes.Equal(key(), ring.Derive(keyring.PurposeMail)) {
				t.Error("the key is not the ring's")
			}
		}
	}
	ring = nil
	if got := key(); got != nil {
		t.Errorf("after the ring is gone there is the key %x", got)
	}
}
