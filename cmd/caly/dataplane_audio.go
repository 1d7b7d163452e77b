package main

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"github.com/caly-dev/caly/cmd/internal/cli"
	"github.com/caly-dev/caly/dataplane/janitor"
	"github.com/caly-dev/caly/dataplane/session/live"
	endpoint "github.com/caly-dev/caly/dataplane/stream"
	"github.com/caly-dev/caly/internal/keyring"
)

// audioOptions are the flags of audio streams.
type audioOptions struct {
	pod        string
	maxStreams int
	agentCIDRs []string
	agents     []netip.Prefix // check reads them
	grace      time.Duration
	cleanup    time.Duration
}

func (o *audioOptions) addTo(f *pflag.FlagSet) {
	f.StringVar(&o.pod, "pod-name", "", "name that no other pod has, for the sessions of audio streams (default: POD_NAME, or the host's name)")
	f.IntVar(&o.maxStreams, "max-streams", 2000, "audio streams at once in this pod; those beyond are answered 503")
	f.StringSliceVar(&o.agentCIDRs, "allowed-agent-cidrs", nil, "private address ranges that the tenants' agents may be in")
	f.DurationVar(&o.grace, "stream-grace", time.Minute, "how long live audio streams may go on after SIGTERM")
	f.DurationVar(&o.cleanup, "cleanup-interval", 30*time.Minute, "time between two cleanups of streams, sessions and memory")
}

// check returns errors of usage, and fills in what the flags left open.
func (o *audioOptions) check() (err error) {
	if o.maxStreams < 1 || o.grace < 0 || o.cleanup < time.Second {
		return usage("--max-streams must be at least 1, --stream-grace not negative, and --cleanup-interval at least 1s")
	}
	if o.agents, err = cli.ParseCIDRs("allowed-agent-cidrs", o.agentCIDRs); err != nil {
		return err
	}
	if o.pod == "" {
		o.pod = os.Getenv("POD_NAME")
	}
	if o.pod == "" {
		o.pod, err = os.Hostname()
	}
	return err
}

// streams is what runs for /audio.
type streams struct {
	handler  *endpoint.Handler
	sessions *live.Registry
	janitor  *janitor.Janitor
	grace    time.Duration
	drained  sync.Once
}

func newStreams(o audioOptions, p apiParts) *streams {
	s := &streams{grace: o.grace}
	s.sessions = live.New(live.Options{Store: p.db, Pod: o.pod, Tenants: p.watcher.Snapshot, MaxStreams: o.maxStreams, Log: p.log, Registerer: p.registry})
	s.handler = endpoint.New(endpoint.Options{Tenants: p.watcher.Snapshot, Sessions: s.sessions, Key: derived(p.watcher.Ring, keyring.PurposeStream),
		TrustedProxies: p.proxies, AllowedAgents: o.agents, Log: p.log, Metrics: p.registry})
	s.janitor = janitor.New(janitor.Options{Store: p.db, Registry: s.sessions, Tenants: func() []string { return p.watcher.Snapshot().IDs() },
		Every: o.cleanup, Log: p.log, Registerer: p.registry})
	return s
}

// run keeps the sessions, and cleans up after those of others, until ctx is done and the streams have ended. The janitor stops last:
// what it leaves is left for good.
func (s *streams) run(ctx context.Context) error {
	keeping, stopKeeping := context.WithCancel(context.WithoutCancel(ctx))
	cleaning, stopCleaning := context.WithCancel(context.WithoutCancel(ctx))
	context.AfterFunc(ctx, func() { s.drain(); stopKeeping() })
	var group errgroup.Group
	group.Go(func() error { return s.janitor.Run(cleaning) })
	err := s.sessions.Run(keeping)
	stopCleaning()
	return errors.Join(err, group.Wait())
}

// drain sends new streams away, gives those that live the grace, and ends what is left. It returns when none is left; every call
// waits for the first.
func (s *streams) drain() {
	s.drained.Do(func() {
		s.handler.Drain()
		s.sessions.Drain(s.grace)
	})
}
