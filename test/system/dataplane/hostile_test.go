package dataplane

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caly-dev/caly/internal/simulator/exotelsim"
	"github.com/caly-dev/caly/internal/testkit/calytest"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
)

const (
	hostileHeader = "POST " + calytest.StatusPath + " HTTP/1.1\r\nHost: x\r\nX-Exotel-Signature: 00\r\n"

	idlePeers    = 5_000 // more than a data plane has room for
	slowPeers    = 200   // of each kind
	endlessPeers = 4

	goodSenders  = 4
	goodWebhooks = 160
	goodPace     = 200 * time.Millisecond
	goodPatience = 5 * time.Second
)

// TestHostilePeers checks that good webhooks are answered 200, at once, next to peers that hold on to all that they
// get. When the peers have gone, nothing is left of them.
func TestHostilePeers(t *testing.T) {
	pg := pgtest.New(t)
	process, public, internal := servingDataPlane(t, pg)
	sendGood(t, public, "before", 1)
	before := readHoldings(t, internal)
	siege := besiege(t, public)
	slowest := sendGood(t, public, "near", goodWebhooks)
	during := readHoldings(t, internal)
	siege.end()
	if during.descriptors < before.descriptors+3500 || siege.cut.Load() == 0 {
		t.Errorf(
			"the peers held %d descriptors, and %d were cut off: this proves nothing",
			during.descriptors-before.descriptors,
			siege.cut.Load(),
		)
	}
	const slack = 32 // connections to PostgreSQL, and this test's own
	var after holdings
	eventually.Holds(t, "what the peers held is released", func() bool {
		after = readHoldings(t, internal)
		return after.descriptors <= before.descriptors+slack && after.goroutines <= before.goroutines+slack
	})
	t.Logf(
		"before: %+v, during: %+v, after: %+v; %d cut off; the slowest good webhook took %s",
		before,
		during,
		after,
		siege.cut.Load(),
		slowest,
	)
	sendGood(t, public, "after", 1)
	if n := events(t, pg); n != goodWebhooks+2 {
		t.Errorf("%d events are kept, want %d", n, goodWebhooks+2)
	}
	process.Terminate()
	if code := process.End(); code != 0 || strings.Contains(process.Printed(), "DATA RACE") {
		t.Errorf("it ends with %d: %s", code, process.Errs())
	}
}

// sendGood sends webhooks, each over a connection of its own and but once. It returns how long the slowest took.
func sendGood(t *testing.T, public, name string, n int) time.Duration {
	t.Helper()
	sender := exotelsim.Sender{
		Secret: calytest.SigningSecret,
		HTTP:   &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
	}
	var wg sync.WaitGroup
	took := make([]time.Duration, n)
	for first := range min(n, goodSenders) {
		wg.Go(func() {
			for i := first; i < n; i += goodSenders {
				start := time.Now()
				call := exotelsim.Call{SID: fmt.Sprintf("%s%d", name, i)}
				status, attempts, err := sender.Send(
					t.Context(),
					"http://"+public+calytest.StatusPath,
					call.Answered(),
					exotelsim.Spellings[i/goodSenders%4],
				)
				took[i] = time.Since(start)
				if err != nil || attempts != 1 || took[i] > goodPatience {
					t.Errorf(
						"a good webhook (%s) is answered %d, %v at attempt %d, after %s",
						name,
						status,
						err,
						attempts,
						took[i],
					)
				}
				calytest.Pause(t.Context(), goodPace-took[i])
			}
		})
	}
	wg.Wait()
	return slices.Max(took)
}

// holdings are what a data plane says of itself.
type holdings struct{ goroutines, descriptors int }

var metric = regexp.MustCompile(`(?m)^(go_goroutines|process_open_fds) (\S+)$`)

func readHoldings(t *testing.T, internal string) (h holdings) {
	t.Helper()
	_, body := calytest.Fetch("http://" + internal + "/metrics")
	found := metric.FindAllSubmatch(body, -1)
	if len(found) != 2 {
		t.Fatalf("%d of two metrics are told: %.200s", len(found), body)
	}
	for _, f := range found {
		n, err := strconv.ParseFloat(string(f[2]), 64)
		if err != nil {
			t.Fatal(err)
		}
		if string(f[1]) == "go_goroutines" {
			h.goroutines = int(n)
		} else {
			h.descriptors = int(n)
		}
	}
	return h
}

// siege is the peers that wish no good.
type siege struct {
	to   string
	stop context.CancelFunc
	wg   sync.WaitGroup
	cut  atomic.Int64 // connections that the data plane ended

	mu   sync.Mutex
	idle []net.Conn
}

// besiege returns once all peers are there.
func besiege(t *testing.T, to string) *siege {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	s := &siege{to: to, stop: stop}
	t.Cleanup(s.end)
	s.peers(ctx, slowPeers, slowly(hostileHeader, "X-A: "+strings.Repeat("a", 1000)))
	s.peers(ctx, slowPeers, slowly(hostileHeader+"Content-Length: 1000\r\n\r\n", strings.Repeat("a", 1000)))
	s.peers(ctx, endlessPeers, endlessly)
	if err := s.idlers(idlePeers); err != nil {
		t.Fatalf("of %d idle peers only %d got in: %v", idlePeers, len(s.idle), err)
	}
	return s
}

// end sends all of them away.
func (s *siege) end() {
	s.stop()
	s.wg.Wait()
	for _, c := range s.idle {
		_ = c.Close()
	}
}

// peers come again a second after they were cut off.
func (s *siege) peers(ctx context.Context, n int, attack func(context.Context, io.Writer) error) {
	for range n {
		s.wg.Go(func() {
			for ctx.Err() == nil {
				if err := s.visit(ctx, attack); err != nil && ctx.Err() == nil {
					s.cut.Add(1)
				}
				calytest.Pause(ctx, time.Second)
			}
		})
	}
}

func (s *siege) visit(ctx context.Context, attack func(context.Context, io.Writer) error) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.to)
	if err != nil {
		return nil //nolint:nilerr // it was never let in
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	defer func() { _ = conn.Close() }()
	return attack(ctx, conn)
}

// slowly says one thing, then another at a byte a second.
func slowly(first, rest string) func(context.Context, io.Writer) error {
	return func(ctx context.Context, w io.Writer) error {
		_, err := io.WriteString(w, first)
		for i := 0; i < len(rest) && err == nil && ctx.Err() == nil; i++ {
			_, err = io.WriteString(w, rest[i:i+1])
			calytest.Pause(ctx, time.Second)
		}
		return err
	}
}

// endlessly sends chunk after chunk.
func endlessly(ctx context.Context, w io.Writer) error {
	_, err := io.WriteString(w, hostileHeader+"Transfer-Encoding: chunked\r\n\r\n")
	chunk := fmt.Sprintf("%x\r\n%s\r\n", 64<<10, strings.Repeat("a", 64<<10))
	for err == nil && ctx.Err() == nil {
		_, err = io.WriteString(w, chunk)
	}
	return err
}

// idlers ask for something once, and then hold their connection.
func (s *siege) idlers(n int) error {
	const dialers = 25
	failures := make(chan error, dialers)
	for range dialers {
		go func() {
			var err error
			for i := 0; i < n/dialers && err == nil; i++ {
				err = s.idler()
			}
			failures <- err
		}()
	}
	var err error
	for range dialers {
		err = errors.Join(err, <-failures)
	}
	return err
}

func (s *siege) idler() error {
	conn, err := net.Dial("tcp", s.to)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.idle = append(s.idle, conn)
	s.mu.Unlock()
	_ = conn.SetDeadline(time.Now().Add(goodPatience))
	if _, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}
