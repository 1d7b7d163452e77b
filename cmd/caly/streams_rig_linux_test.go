package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/jackc/pgx/v5"

	"github.com/caly-dev/caly/internal/testkit/fleet"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
)

// sized is what the environment says in place of a default, which keeps make test short. The make targets of the long runs set it.
func sized[T any](t *testing.T, name string, value T, parse func(string) (T, error)) T {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return value
	}
	value, err := parse(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return value
}

// streamPod is a data plane whose tenant has audio.
type streamPod struct {
	*dataPlanePod
	*process
	pg *pgtest.Server
}

// newStreamPod makes one that is not started, whose tenant may have so many streams.
func newStreamPod(t *testing.T, pg *pgtest.Server, name, agentURL string, maxStreams int) *streamPod {
	t.Helper()
	d := newDataPlanePod(t, pg)
	d.withAudio(agentURL, maxStreams)
	d.args = append(d.args, "--allowed-agent-cidrs=127.0.0.0/8", "--max-streams=20000", "--stream-grace=5s", "--pod-name="+name)
	return &streamPod{dataPlanePod: d, pg: pg}
}

// run starts it, and waits until it is ready.
func (s *streamPod) run() *streamPod {
	s.dataPlanePod.t.Helper()
	s.process = s.start()
	waitFor(s.dataPlanePod.t, "the data plane is not ready", s.ready)
	return s
}

// beside is another pod of the same installation.
func (s *streamPod) beside(name string) *streamPod {
	d := *s.dataPlanePod
	d.public, d.internal = nobody(d.t), nobody(d.t)
	d.args = append([]string(nil), d.args...)
	for i, arg := range d.args {
		for flag, value := range map[string]string{"--listen": d.public, "--internal-listen": d.internal, "--pod-name": name} {
			if strings.HasPrefix(arg, flag+"=") {
				d.args[i] = flag + "=" + value
			}
		}
	}
	return &streamPod{dataPlanePod: &d, pg: s.pg}
}

const streamPath = "/audio/exotel/acme/support/" + audioToken

// calls opens so many, of 20 ms frames if pace is 0.
func (s *streamPod) calls(n int, name string, pace time.Duration) (*fleet.Fleet, error) {
	return fleet.Dial(s.dataPlanePod.t.Context(), fleet.Options{Address: s.public, Path: streamPath, Calls: n, Name: name, Pace: pace})
}

// refusal is how one more stream is refused: the code that it is closed with, or the status of its handshake; 0 if it is let in.
func (s *streamPod) refusal() int {
	ctx, cancel := context.WithTimeout(s.dataPlanePod.t.Context(), patience)
	defer cancel()
	conn, resp, err := websocket.DefaultDialer.DialContext(ctx, "ws://"+s.public+streamPath, nil) //nolint:bodyclose // its body is a copy in memory
	switch {
	case err == nil:
	case resp != nil:
		return resp.StatusCode
	default:
		s.dataPlanePod.t.Error(err)
		return 0
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetReadDeadline(time.Now().Add(patience / 2))
	_, _, err = conn.ReadMessage() // a stream that was let in is told nothing
	if closed := (*websocket.CloseError)(nil); errors.As(err, &closed) {
		return closed.Code
	}
	return 0
}

// metric is a sample's value as the pod tells it; -1 if it does not.
func (s *streamPod) metric(name string) float64 {
	_, body := fetch("http://" + s.internal + "/metrics")
	for line := range strings.Lines(string(body)) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			value, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			if err == nil {
				return value
			}
		}
	}
	return -1
}

// pid of a process.
func (p *process) pid() int { return p.cmd.Process.Pid }

// cpu that a process has used. The kernel counts in hundredths of a second.
func (p *process) cpu() time.Duration {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid()))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(data), ") ") // the name may hold anything
	fields := strings.Fields(rest)
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// resident memory of a process, in KiB.
func (p *process) resident() int {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid()))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(data), "VmRSS:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	kib, _ := strconv.Atoi(fields[0])
	return kib
}

// descriptors that a process has open.
func (p *process) descriptors() int {
	list, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", p.pid()))
	if err != nil {
		return 0
	}
	return len(list)
}

// echoAgent is an agent in a process of its own, at an address.
func echoAgent(t *testing.T) (p *process, address string) {
	t.Helper()
	address = nobody(t)
	p = start(t, nil, "agent", "echo", "--listen="+address)
	waitFor(t, "the agent does not listen", func() bool { code, _ := fetch("http://" + address); return code != 0 })
	return p, address
}

// sessions counts rows.
func (s *streamPod) sessions(t *testing.T, where string, args ...any) (n int) {
	t.Helper()
	s.query(t, []any{&n}, "SELECT count(*) FROM stream_sessions WHERE "+where, args...)
	return n
}

func (s *streamPod) query(t *testing.T, into []any, sql string, args ...any) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.pg.AdminDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(into...); err != nil {
		t.Fatal(err)
	}
}

// patience bounds what a fleet waits for.
const patience = 30 * time.Second

// machine that figures come from.
func machine() string {
	model := runtime.GOARCH
	if data, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if _, rest, ok := strings.Cut(string(data), "model name\t: "); ok {
			model, _, _ = strings.Cut(rest, "\n")
		}
	}
	load, _ := os.ReadFile("/proc/loadavg")
	recent, _, _ := strings.Cut(string(load), " ")
	return fmt.Sprintf("%d CPUs (%s, load %s)", runtime.NumCPU(), model, recent)
}
