//go:build interop

package interop

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience bounds whatever is waited for.
const patience = 60 * time.Second

// library is a WebSocket implementation, as a program that is a peer.
type library struct {
	name    string
	program string
	args    []string
}

func libraries(t *testing.T) []library {
	t.Helper()
	node := os.Getenv("CALY_INTEROP_NODE")
	python := os.Getenv("CALY_INTEROP_PYTHON")
	if node == "" || python == "" {
		t.Fatal("these tests need two programs that make test-interop installs and names: run that")
	}
	return []library{{"ws", node, []string{filepath.Join("peers", "node", "peer.js")}},
		{"websockets", python, []string{filepath.Join("peers", "python", "peer.py")}}}
}

// options of a peer. What is zero is not asked for.
type options struct {
	// Of both.
	Deflate      bool     `json:"deflate,omitempty"`      // permessage-deflate is offered, or taken
	Subprotocols []string `json:"subprotocols,omitempty"` // offered, or taken
	Parts        int      `json:"parts,omitempty"`        // of a message
	Pings        bool     `json:"pings,omitempty"`        // one with each message, or between its parts
	Binary       bool     `json:"binary,omitempty"`       // JSON in binary frames
	Code         int      `json:"code,omitempty"`         // it closes with
	Reason       string   `json:"reason,omitempty"`

	// Of a client: it ends its call after this many media messages.
	URL      string   `json:"url,omitempty"`
	Messages []string `json:"messages,omitempty"`
	Echoes   int      `json:"echoes"`
	Stop     string   `json:"stop,omitempty"`   // what it ends with, without a Code
	Vanish   bool     `json:"vanish,omitempty"` // it ends without a word

	// Of an agent.
	Protocol   string `json:"protocol,omitempty"`
	CloseAfter int    `json:"closeAfter,omitempty"` // number of pieces of audio
}

// clientReport is how a call went.
type clientReport struct {
	Status                                 int
	Error, Extensions, Subprotocol, Reason string
	Messages                               []string
	Binary, Pongs, Code                    int
}

// agentReport is what an agent saw of one.
type agentReport struct {
	Path, Key, Offered, Extensions, Subprotocol, Reason string
	Start                                               map[string]any
	Events, Heard                                       []string
	Pongs, Code                                         int
}

// program is a peer under way.
type program struct {
	t   *testing.T
	in  io.WriteCloser
	out *bufio.Scanner
	err strings.Builder
	cmd *exec.Cmd
}

func (l library) start(t *testing.T, role string, o options) *program {
	t.Helper()
	p := &program{t: t, cmd: exec.Command(l.program, append(l.args[:1:1], role)...)}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.cmd.Stderr = &p.err
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(patience, func() { _ = p.cmd.Process.Kill() })
	t.Cleanup(func() {
		_ = p.in.Close() // which ends it
		err := p.cmd.Wait()
		timer.Stop()
		if err != nil {
			t.Errorf("%s as %s ended with %v: %s", l.name, role, err, p.err.String())
		}
	})
	p.out = bufio.NewScanner(out)
	p.out.Buffer(nil, 64<<20)
	if err := json.NewEncoder(p.in).Encode(o); err != nil {
		t.Fatal(err)
	}
	return p
}

// tells reads the next thing that it tells.
func (p *program) tells(into any) error {
	if !p.out.Scan() {
		return fmt.Errorf("it says no more (%w): %s", p.out.Err(), p.err.String())
	}
	return json.Unmarshal(p.out.Bytes(), into)
}

// agent is a library's server.
type agent struct{ *program }

func (l library) serve(t *testing.T, o options) (a agent, url string) {
	t.Helper()
	a = agent{l.start(t, "agent", o)}
	var at struct{ Port int }
	if err := a.tells(&at); err != nil {
		t.Fatal(err)
	}
	return a, fmt.Sprintf("ws://127.0.0.1:%d/agent?of=support", at.Port)
}

// saw is its report of the call that ended.
func (a agent) saw() (r agentReport) {
	a.t.Helper()
	if err := a.tells(&r); err != nil {
		a.t.Fatal(err)
	}
	return r
}

// call has a library's client place one.
func (l library) call(t *testing.T, o options) (r clientReport) {
	t.Helper()
	if err := l.start(t, "client", o).tells(&r); err != nil {
		t.Fatal(err)
	}
	return r
}
