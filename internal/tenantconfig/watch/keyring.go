package watch

import (
	"bytes"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"

	"github.com/caly-dev/caly/internal/keyring"
)

// keys is what is known of the keyring.
type keys struct {
	ring     atomic.Pointer[keyring.Ring]
	rejected atomic.Int64
	data     []byte // what ring was read from; the informer's goroutine alone uses it
}

// Ring returns the keyring as it is known now, or nil before one was read. As long as what it holds does not change it is the same
// pointer. It costs one atomic load.
func (w *Watcher) Ring() *keyring.Ring { return w.keys.ring.Load() }

// RejectedKeyrings counts keyrings that could not be read.
func (w *Watcher) RejectedKeyrings() int64 { return w.keys.rejected.Load() }

func (w *Watcher) setRing(s *corev1.Secret) {
	data := s.Data[keyring.DataKey]
	if w.keys.data != nil && bytes.Equal(data, w.keys.data) {
		return // a label, or a new watch: what was checked under the ring stays checked
	}
	ring, err := keyring.Decode(data)
	if err != nil {
		w.keys.rejected.Add(1)
		w.log.Error("the keyring cannot be read; the last good one stays in force", "secret", s.Name, "error", err)
		return
	}
	w.keys.data = data
	if w.keys.ring.Swap(ring) == nil {
		w.log.Info("the keyring is read", "keys", len(ring.Keys))
	} else {
		w.log.Info("the keyring has changed", "keys", len(ring.Keys))
	}
}
