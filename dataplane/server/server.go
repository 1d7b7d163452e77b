// Package server runs the data plane's two listeners: the public one for Exotel and the tenants' people, the internal one for probes
// and metrics.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime/debug"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// Options of Run.
type Options struct {
	// Listen and InternalListen are addresses such as :8080.
	Listen, InternalListen string
	// Public answers Exotel and the tenants' users. Internal answers metrics and monitoring, next to the probes.
	Public, Internal http.Handler
	// Ready returns why the pod is not ready, nil when it is.
	Ready func(context.Context) error
	// DrainDelay is how long the pod goes on taking requests while it says that it is not ready; Grace bounds what follows.
	DrainDelay, Grace time.Duration
	// Finish, if there is one, ends what handlers took their connections over for, which Grace does not wait for; metrics and probes are
	// answered until it returns.
	Finish func()
	// TrustedProxies are the address ranges of the proxies whose request ids are kept.
	TrustedProxies []netip.Prefix
	// MaxConns bounds the public listener's connections; 0 means 4096. Beyond it those that are idle make room. Those that handlers took
	// over do not count.
	MaxConns int
	// TLSCertFile and TLSKeyFile, in PEM, let the public listener speak TLS; both or neither. Replaced files are in force within seconds.
	TLSCertFile, TLSKeyFile string
	Log                     *slog.Logger

	recheck time.Duration // of the TLS files; 0 means recheckFiles
}

// TuneMemory lets the garbage collector run less often, unless GOGC is set: what a webhook leaves behind is small and short-lived, and
// with so small a heap as this a collection would follow every few hundred of them. GOMEMLIMIT, which the chart sets, still bounds it.
//
// The runtime is told to keep below nine tenths of that: it does not count its own stacks, code and the kernel's
// buffers, which the limit of a container does.
func TuneMemory() {
	if limit := debug.SetMemoryLimit(-1); limit != math.MaxInt64 {
		debug.SetMemoryLimit(limit / 10 * 9)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
}

// Run serves until ctx is done, then drains: not ready, DrainDelay later no new connections, requests under way get Grace.
func Run(ctx context.Context, o Options) error {
	if o.MaxConns == 0 {
		o.MaxConns = 4096
	}
	certificates, err := o.certificates()
	if err != nil {
		return err
	}
	listen := (&net.ListenConfig{}).Listen
	public, err := listen(ctx, "tcp", o.Listen)
	if err != nil {
		return fmt.Errorf("listen for webhooks: %w", err)
	}
	internal, err := listen(ctx, "tcp", o.InternalListen)
	if err != nil {
		_ = public.Close()
		return fmt.Errorf("listen for probes: %w", err)
	}
	var draining atomic.Bool
	outside := newServer(Middleware(o.Public, o.Log, o.TrustedProxies...))
	inside := newServer(probes(o, &draining))
	group, stopped := errgroup.WithContext(context.WithoutCancel(ctx))
	if certificates != nil {
		outside.TLSConfig = certificates.config()
		watching, stop := context.WithCancel(stopped)
		outside.RegisterOnShutdown(stop)
		group.Go(func() error { certificates.watch(watching); return nil })
	}
	group.Go(func() error { return serve(outside, limit(public, o.MaxConns)) })
	group.Go(func() error { return serve(inside, limit(internal, 256)) })
	o.Log.Info("serving", "webhooks", public.Addr().String(), "probes", internal.Addr().String())
	select {
	case <-ctx.Done():
	case <-stopped.Done(): // one of the listeners failed: end the other
	}
	draining.Store(true)
	o.Log.Info("draining", "delay", o.DrainDelay, "grace", o.Grace)
	sleep(stopped, o.DrainDelay)
	err = shutdown(outside, o.Grace)
	if o.Finish != nil {
		o.Finish()
	}
	return errors.Join(err, shutdown(inside, time.Second), group.Wait())
}

// newServer bounds what a peer can hold: headers, their time, a request's whole time, idle connections.
func newServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       75 * time.Second,
		MaxHeaderBytes:    32 << 10,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 100},
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
}

func serve(s *http.Server, l *limited) error {
	s.ConnState = l.note
	run := s.Serve
	if s.TLSConfig != nil {
		run = func(l net.Listener) error { return s.ServeTLS(l, "", "") }
	}
	if err := run(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	}
	return nil
}

func shutdown(s *http.Server, grace time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		_ = s.Close()
		return fmt.Errorf("requests were still under way after %s of grace and were cut off", grace)
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func probes(o Options, draining *atomic.Bool) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
		defer cancel()
		err := o.Ready(ctx)
		if draining.Load() {
			err = errors.New("draining")
		}
		if err != nil {
			http.Error(w, "not ready: "+err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok\n"))
	})
	mux.Handle("/", o.Internal)
	return mux
}
