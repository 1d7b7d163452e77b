package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/net/netutil"
	"golang.org/x/time/rate"
	"k8s.io/utils/lru"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/caly-dev/caly/internal/buildinfo"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/store"
)

// +kubebuilder:rbac:groups=authentication.k8s.io,resources=tokenreviews,verbs=create
// +kubebuilder:rbac:groups=authorization.k8s.io,resources=subjectaccessreviews,verbs=create
// +kubebuilder:rbac:groups="",namespace=kube-system,resources=configmaps,resourceNames=extension-apiserver-authentication,verbs=get

// Options of a Server.
type Options struct {
	// Port on the loopback addresses.
	Port int
	// Client reads Tenants, and creates TokenReviews and SubjectAccessReviews.
	Client client.Client
	// Reader reads the ConfigMap with the cluster's client authority, without a cache.
	Reader client.Reader
	Store  *store.Operator
	// Namespaces are those that the operator watches; empty: all.
	Namespaces []string
	// Sources is what recordings of events that are applied again may be fetched from.
	Sources recording.SourcePolicy
	// Doctor runs the checks of the operator; nil without them.
	Doctor Doctor
	// Version is what the server says of itself.
	Version buildinfo.Info
}

// Server is the admin API. It is a manager.Runnable that runs in every replica of the operator: each reads and writes
// PostgreSQL itself.
type Server struct {
	Options
	authenticator *authenticator
	authorizer    *authorizer
	rates         *lru.Cache
	mux           *http.ServeMux
	diagnosing    diagnosing
}

// New returns a server that does not listen yet.
func New(o Options) *Server {
	s := &Server{
		Options:       o,
		authenticator: newAuthenticator(o.Client, o.Reader),
		authorizer:    newAuthorizer(o.Client),
		rates:         lru.New(maxUsers),
		mux:           http.NewServeMux(),
	}
	for _, r := range s.routes() {
		s.mux.Handle(r.method+" "+r.path, s.handler(r))
	}
	s.mux.Handle("/", s.handler(route{do: unknownOperation}))
	return s
}

// NeedLeaderElection reports false: a replica that waits for the leadership serves too.
func (s *Server) NeedLeaderElection() bool { return false }

// Start listens on the loopback addresses and serves until ctx ends. A pod without IPv6 or without IPv4 has one of them.
func (s *Server) Start(ctx context.Context) error {
	var listeners []net.Listener
	var errs []error
	for _, host := range []string{"127.0.0.1", "::1"} {
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(s.Port)))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		listeners = append(listeners, listener)
	}
	if len(listeners) == 0 {
		return fmt.Errorf(
			"the admin API cannot listen on port %d of a loopback address: %w", s.Port, errors.Join(errs...),
		)
	}
	return s.Serve(ctx, listeners...)
}

// Serve serves on the listeners until ctx ends. It closes them.
func (s *Server) Serve(ctx context.Context, listeners ...net.Listener) error {
	certificate, err := newCertificate(time.Now())
	if err != nil {
		return fmt.Errorf("make the certificate of the admin API: %w", err)
	}
	logger := log.FromContext(ctx).WithName("adminapi")
	config := &tls.Config{
		Certificates: []tls.Certificate{certificate},
		MinVersion:   tls.VersionTLS13,
		// Verified for each request, by the authority as it is then.
		ClientAuth: tls.RequestClientCert,
		NextProtos: []string{"http/1.1"}, // one request at a time on each of the bounded connections
	}
	base := log.IntoContext(context.WithoutCancel(ctx), logger) // requests under way outlive ctx
	server := &http.Server{
		Handler:           s.mux,
		BaseContext:       func(net.Listener) context.Context { return base },
		MaxHeaderBytes:    maxHeader,
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		ErrorLog:          quiet(),
	}
	ended := make(chan error, len(listeners))
	for _, listener := range listeners {
		bounded := tls.NewListener(netutil.LimitListener(listener, maxConnections/len(listeners)), config)
		go func() { ended <- server.Serve(bounded) }()
	}
	logger.Info("the admin API listens", "address", listeners[0].Addr().String())
	select {
	case err = <-ended:
	case <-ctx.Done():
		err = nil
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	if server.Shutdown(ending) != nil {
		_ = server.Close()
	}
	return err
}

// allow reports whether a user may send another request now.
func (s *Server) allow(user string) bool {
	limiter, ok := s.rates.Get(user)
	if !ok {
		limiter = rate.NewLimiter(perUser, burstOfUser)
		s.rates.Add(user, limiter)
	}
	return limiter.(*rate.Limiter).Allow()
}
