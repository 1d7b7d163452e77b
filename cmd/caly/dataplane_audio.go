package main

import (
	"context"
	"errors"
	"net/netip"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"github.com/caly-dev/caly/cmd/internal/cli"
	"github.com/caly-dev/caly/dataplane/janitor"
	endpoint "github.com/caly-dev/caly/dataplane/stream"
	"github.com/caly-dev/caly/dataplane/stream/capture"
	"github.com/caly-dev/caly/dataplane/stream/registry"
	"github.com/caly-dev/caly/internal/keyring"
	statistics "github.com/caly-dev/caly/internal/monitoring"
	"github.com/caly-dev/caly/internal/objectstore"
)

// audioOptions are the flags of audio streams.
type audioOptions struct {
	pod        string
	maxStreams int
	agentCIDRs []string
	agents     []netip.Prefix // check reads them
	grace      time.Duration
	cleanup    time.Duration
	publicURL  string
	public     *url.URL // check reads it

	captureDir      string
	maxCaptures     int
	maxCaptureBytes int64

	storage cli.StorageFlags
	stores  objectstore.Policy // check reads it
}

// addTo adds the flags of audio streams.
func (o *audioOptions) addTo(f *pflag.FlagSet) {
	f.StringVar(
		&o.pod,
		"pod-name",
		"",
		"name that no other pod has, for the sessions of audio streams (default: POD_NAME, or the host's name)",
	)
	f.IntVar(&o.maxStreams, "max-streams", 2000,
		"audio streams at once in this pod, three quarters for one namespace; those beyond are answered 503")
	f.StringSliceVar(
		&o.agentCIDRs, "allowed-agent-cidrs", nil, "private address ranges that the tenants' agents may be in",
	)
	f.StringVar(&o.publicURL, "public-url", "",
		"where Exotel reaches the data plane, for the URLs of streams (default: where a request says that it was sent)")
	f.DurationVar(&o.grace, "stream-grace", time.Minute, "how long live audio streams may go on after SIGTERM")
	f.DurationVar(
		&o.cleanup, "cleanup-interval", 30*time.Minute, "time between two cleanups of streams, sessions and memory",
	)
	f.StringVar(
		&o.captureDir,
		"capture-dir",
		"",
		"directory of this pod alone for the captures of audio streams on their way to buckets; without it no stream is captured",
	)
	f.IntVar(&o.maxCaptures, "max-captures", 200,
		"streams captured at once in this pod, three quarters for one namespace; those beyond go on uncaptured")
	o.storage.AddTo(f)
	f.Int64Var(
		&o.maxCaptureBytes,
		"max-capture-bytes",
		2<<30,
		"bytes that --capture-dir may hold, half of them for one tenant; a capture that finds no room ends before its call",
	)
}

// check returns errors of usage, and fills in what the flags left open.
func (o *audioOptions) check() (err error) {
	if o.maxStreams < 1 || o.grace < 0 || o.cleanup < time.Second {
		return usage(
			"--max-streams must be at least 1, --stream-grace not negative, and --cleanup-interval at least 1s",
		)
	}
	if o.maxCaptures < 1 || o.maxCaptureBytes < 16<<20 {
		return usage("--max-captures must be at least 1, and --max-capture-bytes at least 16777216")
	}
	if o.public, err = parsePublicURL(o.publicURL); err != nil {
		return err
	}
	if o.agents, err = cli.ParseCIDRs("allowed-agent-cidrs", o.agentCIDRs); err != nil {
		return err
	}
	if o.stores, err = o.storage.Policy(); err != nil {
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

// parsePublicURL returns nil for an empty flag.
func parsePublicURL(flag string) (*url.URL, error) {
	if flag == "" {
		return nil, nil
	}
	address, err := url.Parse(flag)
	if err != nil || (address.Scheme != "http" && address.Scheme != "https") || address.Host == "" ||
		address.User != nil ||
		address.RawQuery != "" {
		return nil, usage("--public-url must be a URL such as https://voice.example.com")
	}
	return address, nil
}

// streams is what runs for /audio.
type streams struct {
	handler  *endpoint.Handler
	sessions *registry.Registry
	janitor  *janitor.Janitor
	captures *capture.Captures // nil without a directory
	retries  *statistics.RetryStats
	grace    time.Duration
	drained  sync.Once
}

// newStreams connects the parts of audio streams. Captures are off without a directory for them.
func newStreams(o audioOptions, p apiParts) (s *streams, err error) {
	s = &streams{grace: o.grace}
	if o.captureDir != "" {
		s.captures, err = capture.New(capture.Options{
			Store:       p.db.live,
			Pod:         o.pod,
			Dir:         o.captureDir,
			Tenants:     p.watcher.Snapshot,
			MaxCaptures: o.maxCaptures,
			MaxBytes:    o.maxCaptureBytes,
			Stores:      o.stores,
			Log:         p.log,
			Registerer:  p.registry,
		})
		if err != nil {
			return nil, err
		}
	}
	s.retries = statistics.NewRetryStats(p.db.limits, s.captures.Breakers())
	s.sessions = registry.New(registry.Options{
		Store:      p.db.live,
		Pod:        o.pod,
		Tenants:    p.watcher.Snapshot,
		MaxStreams: o.maxStreams,
		Log:        p.log,
		Registerer: p.registry,
	})
	s.handler = endpoint.New(endpoint.Options{
		Tenants:        p.watcher.Snapshot,
		Sessions:       s.sessions,
		Key:            derived(p.watcher.Ring, keyring.PurposeStream),
		PublicURL:      o.public,
		TrustedProxies: p.proxies,
		AllowedAgents:  o.agents,
		Egress:         o.stores.Egress,
		Captures:       s.captures,
		Tracer:         p.tracer,
		Log:            p.log,
		Metrics:        p.registry,
	})
	s.janitor = janitor.New(janitor.Options{
		Store:      p.db.live,
		Registry:   s.sessions,
		Tenants:    func() []string { return p.watcher.Snapshot().IDs() },
		Every:      o.cleanup,
		Log:        p.log,
		Registerer: p.registry,
	})
	return s, nil
}

// run keeps the sessions, and cleans up after those of other pods, until ctx is done and the streams have ended. The
// captures then have a while to reach the buckets. The janitor stops last: what it leaves is not cleaned up by this
// pod.
func (s *streams) run(ctx context.Context) error {
	keeping, stopKeeping := context.WithCancel(context.WithoutCancel(ctx))
	cleaning, stopCleaning := context.WithCancel(context.WithoutCancel(ctx))
	context.AfterFunc(ctx, func() { s.drain(); stopKeeping() })
	var group errgroup.Group
	group.Go(func() error { return s.janitor.Run(cleaning) })
	group.Go(func() error { return s.retries.Start(cleaning) })
	capturing, stopCapturing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopCapturing()
	if s.captures != nil {
		group.Go(func() error { return s.captures.Run(capturing) })
	}
	err := s.sessions.Run(keeping)
	s.handler.Wait()
	stopCapturing()
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
