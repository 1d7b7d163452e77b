package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/caly-dev/caly/internal/testkit/wstest"
)

// rig is a relay as a process of its own, and the calls through it; their two ends are here.
type rig struct {
	cmd     *exec.Cmd
	ask     io.WriteCloser
	answers *bufio.Reader
	address string
	agents  net.Listener
	calls   []*call
	opened  chan net.Conn
}

// call has two ends.
type call struct{ exotel, agent *end }

// newRig starts a relay of a kind.
func newRig(ctx context.Context, kind string) (*rig, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &rig{agents: l, opened: make(chan net.Conn, 16)}
	go r.accept()
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	r.cmd = exec.CommandContext(ctx, self, "serve", kind, l.Addr().String())
	r.cmd.Stderr = os.Stderr
	if r.ask, err = r.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	r.answers = bufio.NewReader(out)
	if err := r.cmd.Start(); err != nil {
		return nil, err
	}
	r.address, err = r.answer()
	return r, err
}

func (r *rig) close() {
	for _, c := range r.calls {
		_, _ = c.exotel.conn.Close(), c.agent.conn.Close()
	}
	_ = r.ask.Close() // which ends the relay
	_ = r.cmd.Wait()
	_ = r.agents.Close()
}

func (r *rig) answer() (string, error) {
	line, err := r.answers.ReadString('\n')
	return strings.TrimSpace(line), err
}

func (r *rig) number(question string) (float64, error) {
	if _, err := fmt.Fprintln(r.ask, question); err != nil {
		return 0, err
	}
	line, err := r.answer()
	if err != nil {
		return 0, err
	}
	return strconv.ParseFloat(line, 64)
}

// cpu is the time that the relay has used so far.
func (r *rig) cpu() (time.Duration, error) {
	us, err := r.number("cpu")
	return time.Duration(us) * time.Microsecond, err
}

// memory is what the relay holds once it has given back what it could, in KiB.
func (r *rig) memory() (float64, error) { return r.number("memory") }

// accept answers the relay's handshakes as an agent.
func (r *rig) accept() {
	for {
		c, err := r.agents.Accept()
		if err != nil {
			return
		}
		go func() {
			req, err := http.ReadRequest(bufio.NewReaderSize(c, 1024))
			if err != nil {
				return
			}
			_, _ = io.WriteString(
				c,
				"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
					"Sec-WebSocket-Accept: "+
					accept(req.Header.Get("Sec-WebSocket-Key"))+"\r\n\r\n",
			)
			r.opened <- c
		}()
	}
}

// dial opens calls, one after the other, so that it is known which ends belong together.
func (r *rig) dial(n int) error {
	for range n {
		c, err := net.Dial("tcp", r.address)
		if err != nil {
			return err
		}
		_, err = io.WriteString(
			c,
			"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
				"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
		)
		if err != nil {
			return err
		}
		resp, err := http.ReadResponse(bufio.NewReaderSize(c, 1024), nil)
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusSwitchingProtocols {
			return fmt.Errorf("the relay answered %s", resp.Status)
		}
		select {
		case a := <-r.opened:
			r.calls = append(r.calls, newCall(c, a))
		case <-time.After(10 * time.Second):
			return errors.New("the relay did not connect to the agent")
		}
	}
	return nil
}

func newCall(exotel, agent net.Conn) *call {
	c := &call{
		exotel: &end{conn: exotel, pong: []byte{0x8a, 0x80, 0, 0, 0, 0}},
		agent:  &end{conn: agent, pong: []byte{0x8a, 0}},
	}
	c.exotel.other, c.agent.other = c.agent, c.exotel
	for _, m := range []string{
		`{"event":"connected"}`,
		`{"event":"start","sequence_number":1,"stream_sid":"s1","start":{"stream_sid":"s1","call_sid":"c1"}}`,
	} {
		c.exotel.write(frame(m, true))
	}
	return c
}

// frame is one text frame.
func frame(payload string, masked bool) []byte { return wstest.FrameBytes(0x81, masked, payload) }
