// Package pgtest gives tests a real PostgreSQL: one throw-away server for each test binary, a fresh migrated database for
// each call.
package pgtest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caly-dev/caly/migrations"
)

// Server is a database of its own on the test binary's server.
type Server struct {
	// OwnerDSN, OperatorDSN and DataplaneDSN connect as the roles of those components; AdminDSN as the superuser.
	OwnerDSN, OperatorDSN, DataplaneDSN, AdminDSN string
	pg                                            *postgres
}

const password = "caly-test"

var (
	once    sync.Once
	shared  *postgres
	failure error
)

// New returns a migrated database of its own.
func New(t testing.TB) *Server {
	t.Helper()
	s := NewEmpty(t)
	if err := migrations.Up(t.Context(), s.OwnerDSN, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatalf("migrate: %v", err)
	}
	return s
}

// NewEmpty returns a database of its own without Caly's schema.
func NewEmpty(t testing.TB) *Server {
	t.Helper()
	once.Do(func() { shared, failure = start() })
	if failure != nil {
		t.Fatalf("these tests need PostgreSQL 15 or newer (apt-get install postgresql): %v", failure)
	}
	name := make([]byte, 6)
	_, _ = rand.Read(name) // never fails
	db := "t" + hex.EncodeToString(name)
	if err := shared.exec(t.Context(), "CREATE DATABASE "+db+" OWNER caly_owner"); err != nil {
		t.Fatalf("create database: %v", err)
	}
	// As on a server that is run with care.
	if err := shared.exec(t.Context(), "REVOKE ALL ON DATABASE "+db+" FROM PUBLIC"); err != nil {
		t.Fatalf("prepare database: %v", err)
	}
	dsn := func(role string) string {
		return fmt.Sprintf("postgres://%s:%s@127.0.0.1:%d/%s?sslmode=disable", role, password, shared.port, db)
	}
	if err := execOn(t.Context(), dsn("postgres"), "ALTER SCHEMA public OWNER TO caly_owner"); err != nil {
		t.Fatalf("prepare database: %v", err)
	}
	return &Server{OwnerDSN: dsn("caly_owner"), OperatorDSN: dsn("caly_operator"), DataplaneDSN: dsn("caly_dataplane"),
		AdminDSN: dsn("postgres"), pg: shared}
}

// Stop ends the whole server at once, as a crash would, for every database on it. Start brings it back.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	s.end(t, syscall.SIGQUIT)
}

// StopFast ends it as an administrator's restart does: sessions are cut off, and what is committed is written out.
func (s *Server) StopFast(t testing.TB) {
	t.Helper()
	s.end(t, syscall.SIGINT)
}

func (s *Server) end(t testing.TB, how syscall.Signal) {
	t.Helper()
	if err := s.pg.stop(how); err != nil {
		t.Fatalf("stop PostgreSQL: %v", err)
	}
}

// Start brings a stopped server back and waits until it answers.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	if err := s.pg.run(); err != nil {
		t.Fatalf("start PostgreSQL: %v", err)
	}
}

// postgres is one server process.
type postgres struct {
	bin, dir string
	port     int
	attr     *syscall.SysProcAttr
	cmd      *exec.Cmd
}

func start() (*postgres, error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	p := &postgres{bin: bin}
	// The server ends with the test binary, however that ends.
	p.attr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGQUIT}
	if p.dir, err = os.MkdirTemp("", "caly-pgtest-"); err != nil {
		return nil, err
	}
	if err := p.asPostgres(); err != nil {
		return nil, err
	}
	if p.port, err = freePort(); err != nil {
		return nil, err
	}
	pwfile := filepath.Join(p.dir, "pw")
	if err := os.WriteFile(pwfile, []byte(password), 0o644); err != nil { //nolint:gosec // a test's password
		return nil, err
	}
	initdb := exec.Command(filepath.Join(bin, "initdb"), "-D", filepath.Join(p.dir, "data"), "-U", "postgres", "--pwfile", pwfile,
		"-A", "scram-sha-256", "--no-sync", "-E", "UTF8", "--locale", "C.UTF-8")
	initdb.SysProcAttr, initdb.Dir = p.attr, p.dir
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w: %s", err, out)
	}
	if err := p.run(); err != nil {
		return nil, err
	}
	return p, errors.Join(p.sweep(), p.roles())
}

// sweep starts a child that removes the folder once the test binary has ended, however it did.
func (p *postgres) sweep() error {
	script := `while kill -0 "$0" 2>/dev/null; do sleep 1; done; sleep 1; rm -rf -- "$1"`
	cmd := exec.Command("/bin/sh", "-c", script, strconv.Itoa(os.Getpid()), p.dir) //nolint:gosec // our own folder
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	return cmd.Process.Release()
}

// asPostgres lets the server run as the user postgres where we are root, which PostgreSQL refuses.
func (p *postgres) asPostgres() error {
	if os.Geteuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return fmt.Errorf("PostgreSQL does not run as root, and there is no user postgres: %w", err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	p.attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)} //nolint:gosec // ids are small
	return os.Chown(p.dir, uid, gid)
}

func (p *postgres) run() error {
	// A file, not a buffer: that would need a goroutine, which tests that look for leaks would find.
	log, err := os.Create(filepath.Join(p.dir, "log"))
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	//nolint:gosec // arguments of our own
	p.cmd = exec.Command(filepath.Join(p.bin, "postgres"), "-D", filepath.Join(p.dir, "data"), "-p", strconv.Itoa(p.port),
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "full_page_writes=off",
		"-c", "max_connections=300")
	p.cmd.SysProcAttr, p.cmd.Dir, p.cmd.Stderr = p.attr, p.dir, log
	if err := p.cmd.Start(); err != nil {
		return err
	}
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := p.exec(context.Background(), "SELECT 1")
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			said, _ := os.ReadFile(log.Name())
			return fmt.Errorf("not ready after 30s: %w: %s", err, said)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (p *postgres) stop(how syscall.Signal) error {
	if err := p.cmd.Process.Signal(how); err != nil {
		return err
	}
	_ = p.cmd.Wait() // an immediate shutdown ends with a status of its own
	return nil
}

func (p *postgres) roles() error {
	for _, role := range []string{"caly_owner LOGIN CREATEROLE", "caly_operator LOGIN", "caly_dataplane LOGIN"} {
		if err := p.exec(context.Background(), fmt.Sprintf("CREATE ROLE %s PASSWORD '%s'", role, password)); err != nil {
			return err
		}
	}
	return nil
}

func (p *postgres) exec(ctx context.Context, sql string) error {
	return execOn(ctx, fmt.Sprintf("postgres://postgres:%s@127.0.0.1:%d/postgres?sslmode=disable", password, p.port), sql)
}

func execOn(ctx context.Context, dsn, sql string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, sql)
	return err
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// binaries is the folder of initdb and postgres: on the PATH, or where Debian puts them.
func binaries() (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(path), nil
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		return "", fmt.Errorf("initdb is neither on the PATH nor in /usr/lib/postgresql")
	}
	return filepath.Dir(found[len(found)-1]), nil
}
