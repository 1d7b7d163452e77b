// Package pgtest gives tests a real PostgreSQL: one throw-away server for each test binary, a fresh migrated database for
// each call.
package pgtest

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"sync"
	"syscall"
	"testing"
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
	return sharedServer(t).migrated(t)
}

// NewEmpty returns a database of its own without Caly's schema.
func NewEmpty(t testing.TB) *Server {
	t.Helper()
	return sharedServer(t).database(t)
}

func sharedServer(t testing.TB) *postgres {
	t.Helper()
	checkAllowed(t)
	once.Do(func() { shared, failure = startShared() })
	if failure != nil {
		t.Fatalf("these tests need PostgreSQL 15 or newer (apt-get install postgresql): %v", failure)
	}
	return shared
}

// database creates an empty database on the server.
func (p *postgres) database(t testing.TB) *Server {
	t.Helper()
	db := newName()
	if err := p.createEmpty(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	p.dropAfter(t, db)
	return p.server(db)
}

func newName() string {
	name := make([]byte, 6)
	_, _ = rand.Read(name) // never fails
	return "t" + hex.EncodeToString(name)
}

// dropAfter drops a database once the test has ended: the files of all databases of a package take gigabytes.
func (p *postgres) dropAfter(t testing.TB, db string) {
	t.Cleanup(func() {
		// A test may have stopped the server, or dropped the database. What is left ends with the test binary.
		_ = p.exec(context.Background(), "DROP DATABASE IF EXISTS "+db+" (FORCE)")
	})
}

func (p *postgres) createEmpty(ctx context.Context, db string) error {
	if err := p.exec(ctx,
		"CREATE DATABASE "+db+" OWNER caly_owner",
		"REVOKE ALL ON DATABASE "+db+" FROM PUBLIC", // as on a server that is run with care
	); err != nil {
		return fmt.Errorf("create database: %w", err)
	}
	if err := execOn(ctx, p.server(db).AdminDSN, "ALTER SCHEMA public OWNER TO caly_owner"); err != nil {
		return fmt.Errorf("prepare database: %w", err)
	}
	return nil
}

// server is a database of the server, with the URLs of its roles.
func (p *postgres) server(db string) *Server {
	direct := fmt.Sprintf("127.0.0.1:%d", p.port)
	programs := cmp.Or(p.pooler, direct)
	dsn := func(role, address string) string {
		return fmt.Sprintf("postgres://%s:%s@%s/%s?sslmode=disable", role, password, address, db)
	}
	return &Server{
		OwnerDSN:     dsn("caly_owner", programs),
		OperatorDSN:  dsn("caly_operator", programs),
		DataplaneDSN: dsn("caly_dataplane", programs),
		AdminDSN:     dsn("postgres", direct),
		pg:           p,
	}
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
