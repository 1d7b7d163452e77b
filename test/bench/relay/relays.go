package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/gorilla/websocket"
	"github.com/lxzan/gws"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/caly-dev/caly/dataplane/stream/bridge"
)

// caly is our bridge, as the data plane uses it: a limit, the scanner on every frame, metrics.
func caly(agent string) http.Handler {
	metrics := bridge.NewMetrics(prometheus.NewRegistry())
	var live atomic.Int64
	const limit = 20_000
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if live.Add(1) > limit {
			live.Add(-1)
			http.Error(w, "too many streams", http.StatusServiceUnavailable)
			return
		}
		toAgent, resp, err := bridge.Dialer{}.Dial(r.Context(), "ws://"+agent+"/", nil)
		if err != nil {
			live.Add(-1)
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		_ = resp.Body.Close()
		exotel, err := bridge.Upgrade(w, r, bridge.ConnOptions{})
		if err != nil {
			live.Add(-1)
			_ = toAgent.Close()
			return
		}
		bridge := bridge.New(bridge.Options{Observer: metrics.Observer()})
		go func() {
			metrics.Ended(bridge.Run(context.Background(), exotel, toAgent))
			live.Add(-1)
		}()
	})
}

// proxy passes bytes on, and knows nothing of them.
func proxy(l net.Listener, agent string, through func(to, from *net.TCPConn)) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			a, err := net.Dial("tcp", agent)
			if err != nil {
				_ = c.Close()
				return
			}
			client, server := c.(*net.TCPConn), a.(*net.TCPConn)
			go through(server, client)
			through(client, server)
		}()
	}
}

// copyThrough has a buffer of 32 KiB, as io.Copy has where it cannot splice.
func copyThrough(to, from *net.TCPConn) {
	_, _ = io.Copy(struct{ io.Writer }{to}, struct{ io.Reader }{from})
	_, _ = to.Close(), from.Close()
}

// spliceThrough lets io.Copy have the kernel move the bytes.
func spliceThrough(to, from *net.TCPConn) {
	_, _ = io.Copy(to, from)
	_, _ = to.Close(), from.Close()
}

// gwsSide is one socket of a bare gws relay.
type gwsSide struct {
	gws.BuiltinEventHandler
	other *gws.Conn
}

// OnMessage writes to the other side.
func (s *gwsSide) OnMessage(_ *gws.Conn, m *gws.Message) {
	_ = s.other.WriteMessage(m.Opcode, m.Bytes())
	_ = m.Close()
}

// OnClose closes the other side.
func (s *gwsSide) OnClose(*gws.Conn, error) { _ = s.other.NetConn().Close() }

func gwsRelay(agent string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		toAgent, toExotel := &gwsSide{}, &gwsSide{}
		a, _, err := gws.NewClient(toExotel, &gws.ClientOption{Addr: "ws://" + agent + "/"})
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		e, err := gws.NewUpgrader(toAgent, &gws.ServerOption{}).Upgrade(w, r)
		if err != nil {
			_ = a.NetConn().Close()
			return
		}
		toAgent.other, toExotel.other = a, e
		go e.ReadLoop()
		go a.ReadLoop()
	})
}

var gorillaBuffers = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// gorilla is a relay with gorilla's default buffers, which reads into pooled ones.
func gorilla(agent string) http.Handler {
	through := func(to, from *websocket.Conn) {
		defer func() { _, _ = to.Close(), from.Close() }()
		for {
			kind, r, err := from.NextReader()
			if err != nil {
				return
			}
			buf := gorillaBuffers.Get().(*[64 << 10]byte)
			n, err := io.ReadFull(r, buf[:])
			if errors.Is(err, io.ErrUnexpectedEOF) {
				err = to.WriteMessage(kind, buf[:n])
			}
			gorillaBuffers.Put(buf)
			if err != nil {
				return
			}
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a, _, err := (&websocket.Dialer{}).Dial("ws://"+agent+"/", nil)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		e, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
		if err != nil {
			_ = a.Close()
			return
		}
		go through(a, e)
		go through(e, a)
	})
}
