package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"runtime/debug"
	"strings"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"github.com/caly-dev/caly/cmd/internal/cli"
	"github.com/caly-dev/caly/dataplane/api"
	"github.com/caly-dev/caly/dataplane/identity/account"
	"github.com/caly-dev/caly/dataplane/identity/outbox"
	"github.com/caly-dev/caly/dataplane/monitoring"
	"github.com/caly-dev/caly/dataplane/ratelimit"
	"github.com/caly-dev/caly/dataplane/tenantapi"
	"github.com/caly-dev/caly/dataplane/token"
	"github.com/caly-dev/caly/internal/keyring"
	"github.com/caly-dev/caly/internal/mail"
	"github.com/caly-dev/caly/internal/password"
	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/tenantconfig/watch"
	"github.com/caly-dev/caly/internal/tracing"
)

// apiOptions are the flags of the tenant API.
type apiOptions struct {
	mode             string
	issuer, audience string
	tenantFrom       []string
	limit            []string
	hosts            []string
	hashMemory       int64
	smtp             mail.Options
	smtpTLS          string
}

// addTo adds the flags of the tenants' API.
func (o *apiOptions) addTo(f *pflag.FlagSet) {
	f.StringVar(
		&o.mode,
		"mode",
		string(api.Production),
		"production, or development: errors tell their causes and /api/test is there",
	)
	f.StringVar(
		&o.issuer, "token-issuer", "https://localhost", "who issues access tokens: where the data plane is reached",
	)
	f.StringVar(&o.audience, "token-audience", "caly", "whom access tokens are for")
	f.StringSliceVar(
		&o.tenantFrom, "tenant-from", []string{"path", "host", "header"}, "what may name a request's tenant",
	)
	f.StringSliceVar(&o.hosts, "platform-hosts", nil,
		"the platform's own hosts, which name no tenant; *.domain is every name below it")
	f.StringArrayVar(&o.limit, "limit", nil, "overrides a built-in limit, for example login=6/15m; repeatable")
	f.Int64Var(&o.hashMemory, "password-hash-memory", 0,
		"bytes that hashing passwords may take at once; 0: a quarter of what the memory limit leaves to it")
	f.StringVar(&o.smtp.Address, "smtp-address", "",
		"host:port of the SMTP server; without it requests that send mail are answered 503")
	f.StringVar(&o.smtp.From, "smtp-from", "", "whom mail comes from")
	f.StringVar(&o.smtp.HELO, "smtp-helo", "",
		"host name for the greeting of the SMTP server (default: the machine's name with its domain, or its address)")
	f.StringVar(
		&o.smtpTLS,
		"smtp-tls",
		string(mail.StartTLSMandatory),
		"starttls-mandatory, starttls-opportunistic, implicit or none",
	)
	f.StringVar(&o.smtp.Username, "smtp-username", "", "user name at the SMTP server")
	f.StringVar(&o.smtp.PasswordFile, "smtp-password-file", "", "file with the password for the SMTP server")
	f.StringVar(&o.smtp.CAFile, "smtp-ca-file", "",
		"file with the authorities that the SMTP server's certificate is verified with (default: the system's)")
}

// apiSettings are apiOptions that were checked.
type apiSettings struct {
	apiOptions
	limits map[ratelimit.Name]ratelimit.Limit
	sender outbox.Sender

	platformHosts tenantconfig.HostPatterns
}

// settings returns errors of usage.
func (o apiOptions) settings() (s apiSettings, err error) {
	if err := (api.Options{Mode: api.Mode(o.mode), TenantFrom: o.tenantFrom}).Check(); err != nil {
		return s, cli.UsageError(nil, err)
	}
	if o.issuer == "" || o.audience == "" {
		return s, usage("--token-issuer and --token-audience must not be empty")
	}
	if o.hashMemory != 0 && o.hashMemory < minHashMemory {
		return s, usage("--password-hash-memory must be 0, or at least %d: one hash takes that", minHashMemory)
	}
	if s.platformHosts, err = tenantconfig.ParseHostPatterns("", o.hosts); err != nil {
		return s, usage("--platform-hosts: %v", err)
	}
	s.apiOptions = o
	if s.limits, err = o.platformLimits(); err != nil {
		return s, err
	}
	s.sender, err = o.sender()
	return s, err
}

// usage returns an error that ends the process with ExitUsage.
func usage(format string, args ...any) error { return cli.UsageError(nil, fmt.Errorf(format, args...)) }

// platformLimits reads --limit.
func (o apiOptions) platformLimits() (map[ratelimit.Name]ratelimit.Limit, error) {
	limits := map[ratelimit.Name]ratelimit.Limit{}
	for _, s := range o.limit {
		name, limit, err := ratelimit.ParseLimit(s)
		if err != nil {
			return nil, usage("--limit: %w", err)
		}
		limits[name] = limit
	}
	return limits, nil
}

// sender is nil without an address.
func (o apiOptions) sender() (outbox.Sender, error) {
	if o.smtp.Address == "" {
		return nil, nil
	}
	o.smtp.TLS = mail.TLSPolicy(o.smtpTLS)
	sender, err := mail.NewSender(o.smtp)
	if err != nil {
		return nil, usage("--smtp-...: %w", err)
	}
	if fault := sender.CredentialFault(); fault != "" {
		cli.NewLogger().Warn("the SMTP server will probably refuse to authenticate", "cause", fault)
	}
	return sender, nil
}

// tenantAPI is what runs for /api.
type tenantAPI struct {
	handler     *api.API
	revocations *token.Revocations
	tokens      *token.Service
	mail        *outbox.Dispatcher
	hasher      *password.Hasher
}

// apiParts are what it shares with the webhooks.
type apiParts struct {
	db       *pools
	watcher  *watch.Watcher
	proxies  []netip.Prefix
	registry *prometheus.Registry
	tracer   *tracing.Tracer // nil: no trace is made
	log      *slog.Logger
}

// newTenantAPI connects the parts of the tenants' API. Nothing runs until the caller starts it.
func newTenantAPI(o apiSettings, p apiParts) *tenantAPI {
	tenants := func() []string { return p.watcher.Snapshot().WithAccounts() }
	memory := hashMemory(o.hashMemory, os.DirFS("/"), debug.SetMemoryLimit(-1))
	a := &tenantAPI{hasher: password.NewHasher(password.Options{Memory: memory})}
	p.log.Info("passwords are hashed within a share of the memory", "bytes", memory, "atOnce", a.hasher.Slots())
	a.revocations = token.NewRevocations(token.RevocationOptions{
		Store:    p.db.limits,
		Tenants:  tenants,
		Complete: func() bool { return p.watcher.Snapshot().Complete() },
		Log:      p.log,
		Metrics:  p.registry,
	})
	a.tokens = token.New(token.Options{
		Issuer:      o.issuer,
		Audience:    o.audience,
		Ring:        p.watcher.Ring,
		Revocations: a.revocations,
		Log:         p.log,
		Metrics:     p.registry,
	})
	a.mail = outbox.New(outbox.Options{
		Sender:     o.sender,
		Key:        derived(p.watcher.Ring, keyring.PurposeMail),
		Tenants:    tenants,
		Store:      p.db.api,
		Registerer: p.registry,
		Log:        p.log,
	})
	limiter := ratelimit.New(ratelimit.Options{
		Store:      p.db.limits,
		Key:        derived(p.watcher.Ring, keyring.PurposeRateLimit),
		Limits:     o.limits,
		Registerer: p.registry,
		Log:        p.log,
	})
	a.handler = api.New(api.Options{
		Tenants:        p.watcher.Snapshot,
		Tokens:         a.tokens,
		Limiter:        limiter,
		TenantFrom:     o.tenantFrom,
		PlatformHosts:  o.platformHosts,
		TrustedProxies: p.proxies,
		Mode:           api.Mode(o.mode),
		TestToken:      secret.Sensitive(os.Getenv("DEV_TEST_TOKEN")),
		Log:            p.log,
		Metrics:        p.registry,
	})
	accounts := account.New(account.Options{
		Store:   p.db.api,
		Tokens:  a.tokens,
		Limiter: limiter,
		Hasher:  a.hasher,
		Ring:    p.watcher.Ring,
		Revoker: a.revocations,
		Mail:    a.mail,
		Log:     p.log,
	})
	account.Register(a.handler, accounts)
	tenantapi.Register(a.handler, tenantapi.Options{Store: p.db.api, Inviter: accounts, Revoker: a.revocations})
	a.handler.Handle("/.well-known/jwks.json", a.tokens.JWKS())
	return a
}

// derived is a key of the ring, nil while there is none. It is asked for with each request, and derived once for each ring.
func derived(ring func() *keyring.Ring, purpose string) func() []byte {
	type made struct {
		of  *keyring.Ring
		key []byte
	}
	var last atomic.Pointer[made]
	return func() []byte {
		r := ring()
		if r == nil {
			return nil
		}
		m := last.Load()
		if m == nil || m.of != r {
			m = &made{r, r.Derive(purpose)}
			last.Store(m)
		}
		return m.key
	}
}

// run keeps what is known of revocations, and sends mail, until ctx is done.
func (a *tenantAPI) run(ctx context.Context, group *errgroup.Group) {
	group.Go(func() error { return a.revocations.Run(ctx) })
	group.Go(func() error { return a.mail.Run(ctx) })
}

// route gives webhooks to the first, audio to the second and everything else to the third.
func route(webhooks, streams, rest http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/webhooks/"):
			webhooks.ServeHTTP(w, r)
		case strings.HasPrefix(r.URL.Path, "/audio/"):
			streams.ServeHTTP(w, r)
		default:
			rest.ServeHTTP(w, r)
		}
	})
}

// monitoring is what the pod tells of itself at /api/monitoring/status.
func (a *tenantAPI) monitoring(w *watch.Watcher, db *store.Dataplane) *monitoring.Handler {
	return monitoring.New(
		0,
		monitoring.NewSection("tenantConfigs", func(context.Context) any {
			known, unreadable := w.Counts()
			return map[string]int{
				"known":        known,
				"missing":      w.Missing(),
				"unreadable":   unreadable,
				"withAccounts": len(w.Snapshot().WithAccounts()),
			}
		}),
		monitoring.NewSection("database", func(ctx context.Context) any {
			if err := pingDatabase(ctx, db); err != nil {
				return map[string]any{"reachable": false, "reason": err.Error()}
			}
			return map[string]any{"reachable": true}
		}),
		monitoring.NewSection("tokens", func(context.Context) any {
			if err := a.tokens.Ready(); err != nil {
				return map[string]any{"ready": false, "reason": err.Error()}
			}
			return map[string]any{"ready": true}
		}),
		monitoring.NewSection("passwords", func(context.Context) any {
			return map[string]int{"waiting": a.hasher.Waiting(), "atOnce": a.hasher.Slots()}
		}),
		monitoring.NewSection(
			"mail", func(context.Context) any { return map[string]bool{"enabled": a.mail.Enabled()} },
		),
	)
}
