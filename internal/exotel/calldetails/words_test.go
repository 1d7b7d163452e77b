package calldetails

import (
	"bufio"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/caly-dev/caly/internal/exotel"
	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/testkit/certtest"
)

// TestErrorsQuoteLittle asks hosts that put their own words into the errors of net/http: in a header, or in a
// certificate, which is read before anybody trusts it. The error becomes a condition, which has 32 KiB at most, and a
// person prints it on a terminal.
func TestErrorsQuoteLittle(t *testing.T) {
	const escape = "\x1b[31m"
	x := strings.Repeat("x", 50_000)
	nines := strings.Repeat("9", 50_000)
	names := make([]string, 90)
	for i := range names {
		names[i] = escape + strings.Repeat("n", 200)
	}
	for name, tc := range map[string]struct {
		answer string
		names  []string
	}{
		"status":            {answer: "HTTP/1.1 " + nines + " OK\r\n\r\n"},
		"length":            {answer: "HTTP/1.1 200 OK\r\nContent-Length: " + nines + "\r\n\r\n"},
		"transfer encoding": {answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: " + x + "\r\n\r\n"},
		"redirect":          {answer: "HTTP/1.1 302 OK\r\nLocation: http://%zz" + x + "\r\n\r\n"},
		"certificate":       {names: names},
	} {
		t.Run(name, func(t *testing.T) {
			base := serveRaw(t, tc.answer, tc.names)
			_, err := newClient(t, config(t, base)).Call(t.Context(), "c1")
			if !errors.Is(err, ErrUnavailable) {
				t.Fatalf("got %.300q, want it unavailable", err)
			}
			text := err.Error()
			if len(text) > 800 || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("the error has %d bytes: %.300q", len(text), text)
			}
		})
	}
}

// serveRaw answers every connection with the same bytes, and with TLS under a certificate for the names if there are
// any.
func serveRaw(t *testing.T, answer string, names []string) (base string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	base = "http://" + listener.Addr().String()
	if len(names) > 0 {
		_, port, _ := net.SplitHostPort(listener.Addr().String())
		base = "https://localhost:" + port
		cert := certtest.New(t).SignNames(t, names...)
		listener = tls.NewListener(
			listener, &tls.Config{Certificates: []tls.Certificate{cert}},
		) //nolint:gosec // a test
	}
	done := make(chan struct{})
	t.Cleanup(func() { _ = listener.Close(); <-done })
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				_, _ = conn.Write([]byte(answer))
			}
			_ = conn.Close()
		}
	}()
	return base
}

// TestUnknownStatusOfALeg verifies that an unknown status of a leg is noted, as that of a call is.
func TestUnknownStatusOfALeg(t *testing.T) {
	call, err := Decode([]byte(`{"Sid":"c1","Status":"completed",
		"Details":{"Leg1Status":"completed","Leg2Status":"tele\u001bported"}}`), time.UTC)
	want := []exotel.Unread{{Field: "Leg2Status", Reason: reason.FieldUnknownValue, Value: "teleported"}}
	if err != nil || !slices.Equal(call.Unread, want) {
		t.Errorf("%v, %v; want %v", call.Unread, err, want)
	}
}
