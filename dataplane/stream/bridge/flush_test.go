package bridge

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// opaque hides what connections are: the link cannot write to a descriptor, and leaves every byte to its goroutine, as under TLS.
type opaque struct{ net.Listener }

func (l opaque) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return struct{ net.Conn }{conn}, err
}

// TestCloseIsAnswered checks that a closing peer gets its code back, also where it is not written at once.
func TestCloseIsAnswered(t *testing.T) {
	for name, wrap := range map[string]func(net.Listener) net.Listener{
		"descriptor": func(l net.Listener) net.Listener { return l },
		"none":       func(l net.Listener) net.Listener { return opaque{l} },
	} {
		t.Run(name, func(t *testing.T) {
			rig := newRigBehind(t, quick(), ConnOptions{}, nil, wrap)
			for range 100 {
				exotel, agent := rig.call()
				exotel.Text(connected, start)
				agent.Expect(connected, start)
				exotel.CloseWith(4321, "")
				go agent.Closed()
				if code := expectClose(exotel); code != 4321 {
					t.Fatalf("a close with 4321 was answered %d", code)
				}
				if end := rig.end(); end.Reason != CallEnded || end.Code != 4321 {
					t.Fatalf("the end: %+v", end)
				}
			}
		})
	}
}

// TestFlush waits for what is pending, and no longer than it may.
func TestFlush(t *testing.T) {
	for name, reads := range map[string]bool{"a peer that reads": true, "one that does not": false} {
		t.Run(name, func(t *testing.T) {
			ours, theirs := net.Pipe()
			defer func() { _ = theirs.Close() }()
			link := newLink(ours, ConnOptions{WriteTimeout: patience})
			link.flush(time.Now().Add(-time.Hour)) // nothing is pending
			if n, err := link.Write([]byte("goodbye")); n != 7 || err != nil {
				t.Fatalf("wrote %d, %v", n, err)
			}
			got := make(chan string, 1)
			within := 50 * time.Millisecond
			if reads {
				within = patience
				go func() {
					b := make([]byte, 7)
					_, _ = io.ReadFull(theirs, b)
					got <- string(b)
				}()
			}
			begin := time.Now()
			link.flush(begin.Add(within))
			switch err := link.failure(); {
			case reads && (err != nil || <-got != "goodbye"):
				t.Errorf("what was pending is lost: %v", err)
			case !reads && (!errors.Is(err, errSlow) || time.Since(begin) < within):
				t.Errorf("after %s: %v", time.Since(begin), err)
			}
			_ = link.Close()
			link.wait()
		})
	}
}
