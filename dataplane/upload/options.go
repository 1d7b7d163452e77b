package upload

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/resilience"
	"github.com/caly-dev/caly/internal/tracing"
)

// Options of Run. Zero values mean the defaults.
type Options struct {
	// ConfigPath of the tenant's upload config. Needed.
	ConfigPath string
	// Owner of the leases; unique among all pods. Default: the host's name and the process id.
	Owner string
	// Concurrency is how many recordings move at once; 8.
	Concurrency int
	// IdleExit ends the run when there has been nothing to do for so long; 10 s.
	IdleExit time.Duration
	// MaxRun is the time after which the run claims nothing more. It ends when the recordings that it holds are settled,
	// so that other tenants get their turn. 0 means unlimited.
	MaxRun time.Duration
	// Drain is how long the recordings in progress may go on once ctx has ended; 0: they are handed back at once.
	Drain time.Duration
	// Lease on a recording, renewed at every third of it; 60 s.
	Lease time.Duration
	// AllowHTTP and AllowedCIDRs are the platform's concessions on where recordings may come from.
	AllowHTTP    bool
	AllowedCIDRs []netip.Prefix
	// Stores is what the platform allows of the stores that tenants name.
	Stores objectstore.Policy
	// MaxSize of a recording in bytes; 1 GiB.
	MaxSize int64
	// Registry of breakers; one is made when nil.
	Registry *resilience.Registry
	// Metrics is where metrics are registered; nowhere when nil.
	Metrics prometheus.Registerer
	// Tracer continues the traces of webhooks whose recordings are uploaded; nil continues none.
	Tracer *tracing.Tracer
	// Log; discarded when nil.
	Log *slog.Logger

	// Stall is how long a source or the bucket may let no byte through; 30 s and 60 s.
	SourceStall, StorageStall time.Duration
	// TransferTimeout bounds one recording in all; 1 h.
	TransferTimeout time.Duration
	// FaultTries is how often in a row a fault of the whole tenant is met before the run gives up; 3. FaultPause is what
	// lies between; 15 s.
	FaultTries int
	FaultPause time.Duration
	// DatabasePatience is how long the database may be away; 2 min.
	DatabasePatience time.Duration
	// RereadKeys is the wait between two reads of the config for renewed credentials; 15 s. The operator renews them
	// long before they expire, and the kubelet replaces the file a minute or two later.
	RereadKeys time.Duration
	// Poll is how often an idle worker asks for work; 1 s.
	Poll time.Duration
}

func (o Options) withDefaults() Options {
	setDefault(&o.Concurrency, 8)
	setDefault(&o.IdleExit, 10*time.Second)
	setDefault(&o.Lease, time.Minute)
	setDefault(&o.MaxSize, 1<<30)
	setDefault(&o.SourceStall, 30*time.Second)
	setDefault(&o.StorageStall, time.Minute)
	setDefault(&o.TransferTimeout, time.Hour)
	setDefault(&o.FaultTries, 3)
	setDefault(&o.FaultPause, 15*time.Second)
	setDefault(&o.DatabasePatience, 2*time.Minute)
	setDefault(&o.RereadKeys, 15*time.Second)
	setDefault(&o.Poll, time.Second)
	if o.Owner == "" {
		host, _ := os.Hostname() // the process id is left without it
		o.Owner = fmt.Sprintf("%s-%d", host, os.Getpid())
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Registry == nil {
		o.Registry = resilience.NewRegistry(resilience.Options{}, o.Metrics)
	}
	return o
}

func setDefault[T int | int64 | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// Exit codes of the upload pod. The Job's podFailurePolicy fails the Job on ExitConfig without another pod, and ignores
// ExitTerminated.
const (
	exitTransient  = 1
	ExitConfig     = 64 // EX_USAGE of sysexits.h
	ExitTerminated = 75 // EX_TEMPFAIL
)

// errTerminated is the error of a run that was told to end before the queue was empty.
var errTerminated = errors.New("terminated before the queue was empty; another run continues")

// configError says that no pod can work until somebody changes the Tenant, its Secrets or the release.
type configError struct{ Err error }

// Error returns the cause's text.
func (e *configError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *configError) Unwrap() error { return e.Err }

// ExitCode of a process whose Run returned err.
func ExitCode(err error) int {
	var c *configError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &c):
		return ExitConfig
	case errors.Is(err, errTerminated):
		return ExitTerminated
	}
	return exitTransient
}
