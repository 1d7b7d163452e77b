// Package controllertest gives the tests of a controller what it works with: an API server, a database and namespaces
// of the test's own.
package controllertest

import (
	"sync"
	"testing"

	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/kubetest"
	"github.com/caly-dev/caly/internal/testkit/logtest"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
	"github.com/caly-dev/caly/internal/testkit/storetest"
)

// Main runs the tests of a package that uses New or NewCluster. Each manager logs to its Cluster, and nothing else is
// logged.
func Main(m *testing.M) {
	ctrl.SetLogger(logr.Discard())
	kubetest.Main(m)
}

// Cluster is what a controller without a database works with, for one test. Tests of other packages and of the same
// package run on the same API server, in namespaces of their own.
type Cluster struct {
	*kubetest.Env
	Namespace string // of Tenants and CallRecordings
	Work      string // of tenant configs
	Uploads   string // of upload configs and Jobs
	Logs      *logtest.Buffer
	Writes    *Writes // of the managers

	mu     sync.Mutex
	hidden []string
}

// NewCluster returns new namespaces.
func NewCluster(t testing.TB) *Cluster {
	t.Helper()
	env := kubetest.Get(t)
	return &Cluster{
		Env:       env,
		Namespace: env.NewNamespace(t),
		Work:      env.NewNamespace(t),
		Uploads:   env.NewNamespace(t),
		Logs:      &logtest.Buffer{},
		Writes:    &Writes{},
	}
}

// Rig is a Cluster with a database.
type Rig struct {
	*Cluster
	PG *pgtest.Server
	DB *store.Operator
}

// New returns a rig with a database of its own.
func New(t testing.TB) *Rig {
	t.Helper()
	cluster := NewCluster(t)
	pg := pgtest.New(t)
	return &Rig{Cluster: cluster, PG: pg, DB: storetest.Open(t, pg.OperatorDSN, store.OpenOperator)}
}

// Logger returns the logger of the managers.
func (c *Cluster) Logger() logr.Logger {
	return logr.FromSlogHandler(c.Logs.Handler())
}
