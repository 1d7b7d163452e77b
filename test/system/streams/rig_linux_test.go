package streams

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/jackc/pgx/v5"

	"github.com/caly-dev/caly/internal/testkit/calytest"
	"github.com/caly-dev/caly/internal/testkit/eventually"
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
	*calytest.DataPlane
	*calytest.Process
	pg *pgtest.Server
}

// newStreamPod returns a pod that is not started, whose tenant may have maxStreams streams.
func newStreamPod(t *testing.T, pg *pgtest.Server, name, agentURL string, maxStreams int) *streamPod {
	t.Helper()
	dataPlane := calytest.NewDataPlane(t, pg)
	dataPlane.WithAudio(agentURL, maxStreams)
	dataPlane.Args = append(
		dataPlane.Args,
		"--allowed-agent-cidrs=127.0.0.0/8",
		"--max-streams=20000",
		"--stream-grace=5s",
		"--pod-name="+name,
	)
	return &streamPod{DataPlane: dataPlane, pg: pg}
}

// run starts it, and waits until it is ready.
func (s *streamPod) run() *streamPod {
	s.T.Helper()
	s.Process = s.Run()
	return s
}

// another returns another pod of the same installation.
func (s *streamPod) another(name string) *streamPod {
	dataPlane := *s.DataPlane
	dataPlane.Public, dataPlane.Internal = calytest.FreeAddress(dataPlane.T), calytest.FreeAddress(dataPlane.T)
	dataPlane.Args = append([]string(nil), dataPlane.Args...)
	for i, arg := range dataPlane.Args {
		for flag, value := range map[string]string{
			"--listen":          dataPlane.Public,
			"--internal-listen": dataPlane.Internal,
			"--pod-name":        name,
		} {
			if strings.HasPrefix(arg, flag+"=") {
				dataPlane.Args[i] = flag + "=" + value
			}
		}
	}
	return &streamPod{DataPlane: &dataPlane, pg: s.pg}
}

// calls opens n calls, of 20 ms frames if pace is 0.
func (s *streamPod) calls(n int, name string, pace time.Duration) (*fleet.Fleet, error) {
	return fleet.Dial(s.T.Context(), fleet.Options{
		Address: s.Public,
		Path:    calytest.AudioPath,
		Calls:   n,
		Name:    name,
		Pace:    pace,
	})
}

// refusal is how one more stream is refused: the code that it is closed with, or the status of its handshake; 0 if it is let in.
func (s *streamPod) refusal() int {
	ctx, cancel := context.WithTimeout(s.T.Context(), patience)
	defer cancel()
	conn, resp, err := websocket.DefaultDialer.DialContext(
		ctx, "ws://"+s.Public+calytest.AudioPath, nil,
	) //nolint:bodyclose // its body is a copy in memory
	switch {
	case err == nil:
	case resp != nil:
		return resp.StatusCode
	default:
		s.T.Error(err)
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

// residentKiB is the memory of the process.
func (s *streamPod) residentKiB() int { return int(s.Resident() >> 10) }

// echoAgent is an agent in a process of its own, at an address.
func echoAgent(t *testing.T) (p *calytest.Process, address string) {
	t.Helper()
	address = calytest.FreeAddress(t)
	p = calytest.Start(t, nil, "agent", "echo", "--listen="+address)
	eventually.Holds(t, "the agent listens", func() bool {
		code, _ := calytest.Fetch("http://" + address)
		return code != 0
	})
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
