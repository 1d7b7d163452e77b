package store_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
	"github.com/caly-dev/caly/internal/testkit/storetest"
)

// TestFailover writes without a pause while a standby takes over. Providers differ in what becomes of the old primary:
// it stays up and is read-only, so that connections to it live on (PostgreSQL answers 25006), it follows the new one,
// or it is gone. The address moves to the new primary, or the connection URL names both.
func TestFailover(t *testing.T) {
	pgtest.SameOnEachServer(t)
	const load, within = 11 * time.Second, 10 * time.Second
	for name, tc := range map[string]struct {
		severalHosts bool
		demote       func(*testing.T, *pgtest.Server)
	}{
		"the address moves, the old primary is read-only": {demote: readOnly},
		"two hosts, the old primary is read-only":         {severalHosts: true, demote: readOnly},
		"two hosts, the old primary is down":              {severalHosts: true, demote: crash},
	} {
		t.Run(name, func(t *testing.T) {
			old := pgtest.NewServer(t, pgtest.Bin15(t), false)
			migrate(t, old)
			next := old.NewStandby(t)
			moving := newMovingAddress(t, old.Address())
			address := moving.address
			if tc.severalHosts {
				address = old.Address() + "," + next.Address()
			}
			db := storetest.Open(t, pgtest.At(t, old.DataplaneDSN, address), store.OpenDataplane)
			writeLoad := startWriting(t, db)
			writeLoad.expect(t, time.Second)
			tc.demote(t, old)
			next.Promote(t)
			moving.to(next.Address())
			recovered := writeLoad.expect(t, load)
			t.Logf("after the failover %d writes were accepted, %d not; the first one after %s",
				writeLoad.accepted.Load(), writeLoad.failed.Load(), recovered)
			if recovered > within {
				t.Errorf("writes were accepted again after %s, want at most %s", recovered, within)
			}
			if err := db.Writable(t.Context()); err != nil {
				t.Errorf("the database is not writable: %v", err)
			}
		})
	}
}

// TestIPv6Hosts connects as operator and as an upload pod to a server that has only an IPv6 address, alone and as the
// second host of the URL.
func TestIPv6Hosts(t *testing.T) {
	if listener, err := net.Listen("tcp", "[::1]:0"); err != nil {
		t.Skipf("this machine has no IPv6: %v", err)
	} else {
		_ = listener.Close()
	}
	pg := pgtest.New(t)
	server := strings.Replace(pg.Address(), "127.0.0.1", "[::1]", 1)
	for name, hosts := range map[string]string{
		"one":   server,
		"two":   "[::1]:1," + server,
		"mixed": "127.0.0.1:1," + server,
	} {
		t.Run(name, func(t *testing.T) {
			operator := storetest.Open(t, pgtest.At(t, pg.OperatorDSN, hosts), store.OpenOperator)
			upload := storetest.Open(t, storetest.UploadDSN(t, operator, "six/"+name, "password"), store.OpenUpload)
			if _, err := upload.Claim(t.Context(), "pod", 1, time.Minute); err != nil {
				t.Error(err)
			}
		})
	}
}

func readOnly(t *testing.T, s *pgtest.Server) {
	s.Exec(t, `ALTER SYSTEM SET default_transaction_read_only = on`)
	s.Exec(t, `SELECT pg_reload_conf()`)
}

func crash(t *testing.T, s *pgtest.Server) { s.Stop(t) }

// The pauses of each goroutine of a load, and the time for which its writes are counted.
const (
	afterWrite   = 5 * time.Millisecond
	afterFailure = 20 * time.Millisecond
	counted      = time.Second
)

// writeLoad is a load of webhooks.
type writeLoad struct {
	accepted, failed atomic.Int64
}

// startWriting stores events from several goroutines until the test ends.
func startWriting(t *testing.T, db *store.Dataplane) *writeLoad {
	t.Helper()
	w := &writeLoad{}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for worker := range 4 {
		running.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				w.write(ctx, db, fmt.Sprintf("c%d-%d", worker, n))
			}
		})
	}
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	return w
}

func (w *writeLoad) write(ctx context.Context, db *store.Dataplane, call string) {
	one, cancel := context.WithTimeout(ctx, 10*time.Second) // as the data plane does
	defer cancel()
	if _, err := db.Ingest(one, newEvent(acme, call, "terminal", store.CallCompleted, "")); err != nil {
		w.failed.Add(1)
		time.Sleep(afterFailure)
		return
	}
	w.accepted.Add(1)
	time.Sleep(afterWrite)
}

// expect waits for a write that is accepted, and returns how long that took. It counts for a while after that.
func (w *writeLoad) expect(t *testing.T, during time.Duration) (first time.Duration) {
	t.Helper()
	w.accepted.Store(0)
	w.failed.Store(0)
	began := time.Now()
	eventually.Within(during).Succeeds(t, func(context.Context) error {
		if w.accepted.Load() == 0 {
			return fmt.Errorf("0 of %d writes were accepted", w.failed.Load())
		}
		return nil
	})
	first = time.Since(began)
	time.Sleep(counted)
	return first
}

// movingAddress is an address whose new connections go to another server after a move, as those of a Service or a DNS
// name do. Connections that exist stay where they are.
type movingAddress struct {
	address string
	target  atomic.Value
}

func newMovingAddress(t *testing.T, target string) *movingAddress {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &movingAddress{address: listener.Addr().String()}
	m.to(target)
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() { m.forward(conn) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		running.Wait()
	})
	return m
}

func (m *movingAddress) to(target string) { m.target.Store(target) }

func (m *movingAddress) forward(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	server, err := net.Dial("tcp", m.target.Load().(string))
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	go func() {
		_, _ = io.Copy(server, conn)
		_ = server.Close()
	}()
	_, _ = io.Copy(conn, server)
}
