package dataplane

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caly-dev/caly/internal/simulator/exotelsim"
	"github.com/caly-dev/caly/internal/testkit/calytest"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
)

// TestDataPlaneDrains verifies that a webhook that is half sent at SIGTERM is read to its end, answered 200 and stored.
func TestDataPlaneDrains(t *testing.T) {
	pg := pgtest.New(t)
	process, public, internal := servingDataPlane(t, pg)
	const path = "/webhooks/exotel/acme/support/status"
	fields := exotelsim.Call{SID: "c1"}.Answered()
	if status, _, err := (exotelsim.Sender{Secret: calytest.SigningSecret}).Send(
		t.Context(), "http://"+public+path, fields, exotelsim.Form,
	); err != nil {
		t.Fatalf("before the signal: %d, %v", status, err)
	}
	conn, half := halfSent(t, public, path)
	process.Terminate()
	eventually.Holds(t, "the data plane reports that it drains", func() bool {
		code, body := calytest.Fetch("http://" + internal + "/readyz")
		return code == http.StatusServiceUnavailable && bytes.Contains(body, []byte("draining"))
	})
	_, _ = io.WriteString(conn, half)
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	if answer, err := io.ReadAll(conn); err != nil || !bytes.HasPrefix(answer, []byte("HTTP/1.1 200 ")) {
		t.Errorf("the webhook under way is answered %q, %v", answer, err)
	}
	if code := process.End(); code != 0 {
		t.Errorf("it ends with %d: %s", code, process.Errs())
	}
	if n := events(t, pg); n != 2 {
		t.Errorf("%d events are kept, want 2", n)
	}
	if said := process.Printed(); strings.Contains(said, calytest.SigningSecret) ||
		strings.Contains(said, "caly-test@") ||
		strings.Contains(said, "panic") {
		t.Errorf("it says %s", said)
	}
}

// halfSent is a connection on which all of a webhook but the half that it returns was sent.
func halfSent(t *testing.T, address, path string) (c net.Conn, half string) {
	t.Helper()
	body, contentType, err := exotelsim.Encode(exotelsim.Call{SID: "c2"}.Answered(), exotelsim.Form)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = net.Dial("tcp", address); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_, err = fmt.Fprintf(
		c,
		"POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nX-Exotel-Signature: %x\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		path,
		contentType,
		hmacSHA1(calytest.SigningSecret, body),
		len(body),
		body[:len(body)/2],
	)
	if err != nil {
		t.Fatal(err)
	}
	return c, string(body[len(body)/2:])
}
