package server

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caly-dev/caly/internal/testkit/eventually"
)

// manyFields returns the head of a request with many short fields, without its end.
func manyFields(bytes int) string {
	var b strings.Builder
	b.WriteString("GET / HTTP/1.1\r\nHost: x\r\n")
	for i := 0; b.Len() < bytes; i++ {
		fmt.Fprintf(&b, "%x:\r\n", i)
	}
	return b.String()
}

// TestHeaderMemory tests that unfinished headers of many fields share a bounded memory, that a usual request is
// answered meanwhile, and that all of the memory is given back.
func TestHeaderMemory(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	limited := limit(listener, 256)
	server := newServer(
		http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }),
	)
	served := make(chan error, 1)
	go func() { served <- serve(server, limited) }()
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		return conn
	}
	head := manyFields(30 << 10)
	most := int64(0)
	for range 200 { // together they would be charged 96 MiB
		_, _ = dial().Write([]byte(head)) // one that is closed already need not take it
		most = max(most, limited.memory.InUse())
	}
	good := dial()
	for range 3 {
		if _, err := fmt.Fprint(good, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(good), nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusNoContent {
			t.Errorf("a usual request is answered %d", resp.StatusCode)
		}
	}
	if most > headerMemory || most < headerMemory/8 {
		t.Errorf("%d bytes were in use, want some, and at most %d", most, headerMemory)
	}
	_ = server.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
	eventually.Within(20*time.Second).Succeeds(t, func(context.Context) error {
		if n := limited.memory.InUse(); n != 0 {
			return fmt.Errorf("%d bytes are in use after the end", n)
		}
		return nil
	})
}
