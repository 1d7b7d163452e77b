package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/caly-dev/caly/dataplane/server"
	"github.com/caly-dev/caly/dataplane/webhook"
	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/tracing/export"
)

const (
	tenantID      = "bench/webhook"
	webhookSecret = "bench-webhook-secret-0123456789"
	envDataplane  = "CALY_BENCH_DSN_DATAPLANE"
	envWorkers    = "CALY_BENCH_WORKERS"
	envPort       = "CALY_BENCH_PORT"
	defaultPort   = 17092
)

// serve is a data plane that knows one tenant, without a Kubernetes to watch. It ends with its parent.
func serve(ctx context.Context) error {
	log := slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	server.TuneMemory()
	db, err := store.OpenDataplane(ctx, os.Getenv(envDataplane), store.Options{MaxConns: 16})
	if err != nil {
		return err
	}
	defer db.Close()
	workers, _ := strconv.Atoi(os.Getenv(envWorkers)) // 0 is the default
	port, err := strconv.Atoi(os.Getenv(envPort))
	if err != nil {
		port = defaultPort
	}
	snapshot := tenantconfig.NewSnapshot(&tenantconfig.Tenant{
		Version:            tenantconfig.Version,
		ID:                 tenantID,
		TimeZone:           "Asia/Kolkata",
		AllowedSourceHosts: tenantconfig.DefaultSourceHosts,
		Webhooks: &tenantconfig.Webhooks{Signature: &tenantconfig.Signature{
			Scheme:  tenantconfig.SchemeHMACSHA1,
			Secrets: []secret.Sensitive{webhookSecret},
		}},
	})
	ratio, _ := strconv.ParseFloat(os.Getenv(envTraceRatio), 64) // 0 without it
	traces, err := export.New(export.Options{
		Endpoint: os.Getenv(envTraceEndpoint),
		Ratio:    ratio,
		Service:  "caly-dataplane",
		Log:      log,
	})
	if err != nil {
		return err
	}
	defer func() {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		traces.Shutdown(ending)
	}()
	handler := webhook.New(webhook.Options{
		Tenants: func() *tenantconfig.Snapshot { return snapshot },
		Store:   db,
		Workers: workers,
		Tracer:  traces.Tracer(),
		Log:     log,
		Metrics: prometheus.NewRegistry(),
	})
	defer handler.Close()
	return server.Run(ctx, server.Options{
		Listen:         fmt.Sprintf("127.0.0.1:%d", port),
		InternalListen: fmt.Sprintf("127.0.0.1:%d", port+1),
		Public:         handler,
		Internal:       http.NotFoundHandler(),
		Ready:          func(context.Context) error { return nil },
		Grace:          5 * time.Second,
		Log:            log,
	})
}

// rig is the server under test, and what pgbench needs.
type rig struct {
	o      options
	addr   string
	dir    string
	server *exec.Cmd
	// program is the server's file; empty: this one. env is added to its environment.
	program string
	env     []string
}

func newRig(ctx context.Context, o options) (_ *rig, err error) {
	r := &rig{o: o, addr: fmt.Sprintf("127.0.0.1:%d", defaultPort)}
	if r.dir, err = os.MkdirTemp("", "caly-bench-webhook-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	if err := r.prepare(ctx); err != nil {
		return nil, err
	}
	return r, r.start(ctx)
}

// start starts the server and waits until it answers.
func (r *rig) start(ctx context.Context) (err error) {
	if r.program == "" {
		if r.program, err = os.Executable(); err != nil {
			return err
		}
	}
	r.server = exec.CommandContext(ctx, r.program, "serve")
	r.server.Env = append(append(os.Environ(), envWorkers+"="+strconv.Itoa(r.o.workers)), r.env...)
	r.server.Stderr = os.Stderr
	r.server.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	r.server.Cancel = func() error { return r.server.Process.Signal(syscall.SIGTERM) }
	if err := r.server.Start(); err != nil {
		return err
	}
	return r.ready(ctx)
}

func (r *rig) duration() time.Duration { return time.Duration(r.o.seconds) * time.Second }

func (r *rig) close() {
	if r.server != nil && r.server.Process != nil {
		_ = r.server.Process.Signal(syscall.SIGTERM)
		_ = r.server.Wait()
	}
	if r.dir != "" {
		_ = os.RemoveAll(r.dir)
	}
}

func (r *rig) ready(ctx context.Context) error {
	for range 100 {
		if _, err := load(ctx, r.addr, 1, time.Millisecond, false); err == nil {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return errors.New("the server does not answer")
}

// prepare makes a table like the one that events go to, for pgbench, and its script. The row is as long as ours.
func (r *rig) prepare(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, r.o.dsnAdmin)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.Exec(
		ctx, `DROP TABLE IF EXISTS bench_events; CREATE TABLE bench_events (LIKE call_events INCLUDING ALL)`,
	); err != nil {
		return err
	}
	script := fmt.Sprintf(`\set r random(1, 9223372036854775807)
INSERT INTO bench_events (tenant, call_sid, kind, event_type, dedup_key, source, content_type, query, raw, applied_at)
VALUES ('%s', lpad(to_hex((:r)::bigint), 32, '0'), 'status', 'terminal', sha256(int8send((:r)::bigint)), 'webhook',
'application/x-www-form-urlencoded', '', convert_to('CallSid=00000000000000000000000000000000%s', 'UTF8'), now());
`, tenantID, body)
	return os.WriteFile(filepath.Join(r.dir, "insert.sql"), []byte(script), 0o600)
}

// runPgbench inserts the rows and reads the latency of each from pgbench's own log.
func (r *rig) runPgbench(ctx context.Context, clients int) (result, error) {
	logs := filepath.Join(r.dir, "log")
	// The password goes through the environment.
	u, err := url.Parse(r.o.dsnAdmin)
	if err != nil {
		return result{}, err
	}
	password, _ := u.User.Password()
	cmd := exec.CommandContext(
		ctx,
		r.o.pgbench,
		"-n",
		"-M",
		"prepared",
		"-c",
		strconv.Itoa(clients),
		"-j",
		strconv.Itoa(min(clients, 2)),
		"-T",
		strconv.Itoa(r.o.seconds),
		"-f",
		filepath.Join(r.dir, "insert.sql"),
		"-l",
		"--log-prefix",
		logs,
		"-h",
		u.Hostname(),
		"-p",
		u.Port(),
		"-U",
		u.User.Username(),
		strings.TrimPrefix(u.Path, "/"),
	)
	cmd.Env = append(os.Environ(), "PGPASSWORD="+password)
	if out, err := cmd.CombinedOutput(); err != nil {
		return result{}, fmt.Errorf("%w: %s", err, out)
	}
	files, err := filepath.Glob(logs + "*")
	if err != nil {
		return result{}, err
	}
	var all []time.Duration
	for _, f := range files {
		latencies, err := readLog(f)
		if err != nil {
			return result{}, err
		}
		all = append(all, latencies...)
	}
	return summary(all, r.duration())
}

// readLog reads and removes one file of lines "client transaction microseconds script ...".
func readLog(file string) (list []time.Duration, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(file)) }()
	lines := bufio.NewScanner(io.Reader(f))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 3 {
			return nil, fmt.Errorf("pgbench logged %q", lines.Text())
		}
		us, err := strconv.ParseInt(fields[2], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("pgbench logged %q", lines.Text())
		}
		list = append(list, time.Duration(us)*time.Microsecond)
	}
	return list, lines.Err()
}
