// Package dataplane tests the data plane as a process: killed, without its database, and among hostile peers.
package dataplane

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/caly-dev/caly/internal/testkit/calytest"
	"github.com/caly-dev/caly/internal/testkit/kubetest"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
)

func TestMain(m *testing.M) { kubetest.Main(m) }

// servingDataPlane starts a data plane that knows the tenant acme/support.
func servingDataPlane(t *testing.T, pg *pgtest.Server) (p *calytest.Process, public, internal string) {
	t.Helper()
	dataPlane := calytest.NewDataPlane(t, pg)
	p = dataPlane.Run()
	return p, dataPlane.Public, dataPlane.Internal
}

func hmacSHA1(key string, body []byte) []byte {
	mac := hmac.New(sha1.New, []byte(key))
	_, _ = mac.Write(body) // never fails
	return mac.Sum(nil)
}

func events(t *testing.T, pg *pgtest.Server) (n int) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), pg.AdminDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM call_events").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
