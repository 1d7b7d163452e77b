package accounts

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	keyringctl "github.com/caly-dev/caly/controllers/keyring"
	"github.com/caly-dev/caly/dataplane/ratelimit"
	"github.com/caly-dev/caly/dataplane/token"
	"github.com/caly-dev/caly/internal/keyring"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/calytest"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/kubetest"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
	"github.com/caly-dev/caly/internal/testkit/smtptest"
)

const (
	acme   = "acme/support"
	globex = "globex/sales"
)

// platform is data-plane pods behind a proxy that takes turns, with one PostgreSQL, one SMTP server and two tenants.
type platform struct {
	t          *testing.T
	pg         *pgtest.Server
	ns         string
	kubeconfig string
	smtp       *smtptest.Server
	smtpSecret string // file with the password that pods show there
	// database and relay are the pods' ways to PostgreSQL and to the SMTP server.
	database, relay *wire
	pods            []*accountsPod
	proxy           *roundRobin
	admin           *pgx.Conn // as the superuser
}

// accountsPod is one of the data plane's processes.
type accountsPod struct {
	*calytest.DataPlane
	p *calytest.Process
}

// setup is how a platform differs from the usual one.
type setup struct {
	pods      int
	args, env []string
	// tenant may change what is known of a tenant.
	tenant func(*tenantconfig.Tenant)
	// smtp is how the SMTP server behaves, in addition to wanting a password.
	smtp smtptest.Options
}

// wideLimits let a test try as often as it likes.
func wideLimits() (args []string) {
	for _, name := range ratelimit.Names() {
		args = append(args, "--limit="+string(name)+"=1000/1s")
	}
	return args
}

func newPlatform(t *testing.T, s setup) *platform {
	t.Helper()
	s.smtp.Auth = true
	p := &platform{
		t:          t,
		pg:         pgtest.New(t),
		ns:         kubetest.Get(t).NewNamespace(t),
		kubeconfig: calytest.Kubeconfig(t),
		smtp:       smtptest.New(t, s.smtp),
		smtpSecret: file(t, smtptest.Password),
	}
	p.database, p.relay = newWire(t, hostOf(t, p.pg.DataplaneDSN)), newWire(t, p.smtp.Address)
	var err error
	if p.admin, err = pgx.Connect(t.Context(), p.pg.AdminDSN); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.admin.Close(context.Background()) })
	for _, id := range []string{acme, globex} {
		p.configure(id, s.tenant)
		p.exec(t, "INSERT INTO tenants (tenant) VALUES ($1)", id) // which the operator does
	}
	calytest.ListConfigs(t, p.ns)
	p.keepKeys()
	for range max(s.pods, 1) {
		p.pods = append(p.pods, p.newPod(s))
	}
	for _, pod := range p.pods {
		p.await(t, pod)
	}
	p.proxy = newRoundRobin(t, p.pods)
	return p
}

func hostOf(t *testing.T, dsn string) string {
	t.Helper()
	address, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	return address.Host
}

// newTenantConfig is a tenant with accounts, where anybody may register.
func newTenantConfig(id string) tenantconfig.Tenant {
	return tenantconfig.Tenant{
		Version:            tenantconfig.Version,
		ID:                 id,
		UID:                "uid-" + id,
		TimeZone:           "Asia/Kolkata",
		Freshness:          tenantconfig.DefaultFreshness,
		AllowedSourceHosts: tenantconfig.DefaultSourceHosts,
		Auth: &tenantconfig.Auth{
			OpenRegistration:    true,
			AccessTokenLifetime: tenantconfig.DefaultAccessTokenLifetime,
			SessionLifetime:     tenantconfig.DefaultSessionLifetime,
		},
	}
}

// configure writes a tenant's config, as the operator does.
func (p *platform) configure(id string, change func(*tenantconfig.Tenant)) {
	p.t.Helper()
	tenant := newTenantConfig(id)
	if change != nil {
		change(&tenant)
	}
	calytest.WriteConfig(p.t, p.ns, tenant)
}

// keepKeys runs the operator's own keeper of the keyring until the test ends, and returns once it has made one.
func (p *platform) keepKeys() {
	p.t.Helper()
	kube := kubetest.Get(p.t).Client
	keeper := &keyringctl.Keeper{
		Client:        kube,
		APIReader:     kube,
		WorkNamespace: p.ns,
		Metrics:       keyringctl.NewMetrics(prometheus.NewRegistry()),
	}
	ctx, cancel := context.WithCancel(log.IntoContext(context.Background(), logr.Discard()))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := keeper.Start(ctx); err != nil {
			p.t.Error(err)
		}
	}()
	p.t.Cleanup(func() { cancel(); <-ended })
	eventually.Holds(p.t, "there is a keyring", func() bool { return p.ring() != nil })
}

// ring is the keyring as it is in the cluster, nil without one.
func (p *platform) ring() *keyring.Ring {
	var s corev1.Secret
	if kubetest.Get(p.t).Client.Get(context.Background(), client.ObjectKey{
		Namespace: p.ns,
		Name:      keyring.SecretName,
	}, &s) != nil {
		return nil
	}
	ring, err := keyring.Decode(s.Data[keyring.DataKey])
	if err != nil {
		p.t.Fatal(err)
	}
	return ring
}

// newPod starts a pod.
func (p *platform) newPod(s setup) *accountsPod {
	p.t.Helper()
	dataPlane := &calytest.DataPlane{T: p.t, Public: calytest.FreeAddress(p.t), Internal: calytest.FreeAddress(p.t)}
	dataPlane.Env = append(
		[]string{"KUBECONFIG=" + p.kubeconfig, "CALY_DATABASE_URL=" + p.database.through(p.t, p.pg.DataplaneDSN)},
		s.env...)
	dataPlane.Args = append(
		[]string{
			"dataplane",
			"--work-namespace=" + p.ns,
			"--listen=" + dataPlane.Public,
			"--internal-listen=" + dataPlane.Internal,
			"--drain-delay=100ms",
			"--trusted-proxies=127.0.0.0/8",
			"--smtp-address=" + p.relay.address,
			"--smtp-from=Caly <no-reply@caly.example>",
			"--smtp-ca-file=" + p.smtp.CAFile,
			"--smtp-username=" + smtptest.Username,
			"--smtp-password-file=" + p.smtpSecret,
		},
		s.args...)
	return &accountsPod{dataPlane, dataPlane.Start()}
}

// addPod starts one that the proxy does not know.
func (p *platform) addPod(t *testing.T, s setup) *accountsPod {
	t.Helper()
	pod := p.newPod(s)
	p.await(t, pod)
	return pod
}

// await waits until a pod is ready, mints tokens and knows what was revoked of each tenant.
func (p *platform) await(t *testing.T, pod *accountsPod) {
	t.Helper()
	eventually.Holds(t, "the pod is ready", func() bool { return pod.Ready() && pod.hasKeys() })
	minter := token.New(token.Options{Issuer: "https://localhost", Audience: "caly", Ring: p.ring})
	for _, id := range []string{acme, globex} {
		now := time.Now()
		probe, err := minter.Mint(token.Claims{
			Tenant:    id,
			TenantUID: "uid-" + id,
			UserID:    store.NewID(),
			SessionID: store.NewID(),
			Role:      store.RoleViewer,
			IssuedAt:  now,
			ExpiresAt: now.Add(time.Minute),
		})
		if err != nil {
			t.Fatal(err)
		}
		eventually.Holds(t, "the pod checks tokens", func() bool {
			code, _ := calytest.Fetch(
				"http://"+pod.Public+"/api/tenant",
				func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+probe) },
			)
			return code != 0 && code != http.StatusServiceUnavailable
		})
	}
}

// hasKeys tells whether the pod can mint tokens.
func (a *accountsPod) hasKeys() bool {
	code, body := calytest.Fetch("http://" + a.Internal + "/api/monitoring/status")
	return code == http.StatusOK && jsonAt(body, "tokens", "ready") == true
}

// file is one with the text.
func file(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// operator runs a command of the platform's engineer and returns what it prints.
func (p *platform) operator(t *testing.T, args ...string) string {
	t.Helper()
	process := calytest.Start(
		t,
		[]string{"KUBECONFIG=" + p.kubeconfig, "CALY_DATABASE_URL=" + p.pg.OperatorDSN},
		args...)
	if code := process.End(); code != 0 {
		t.Fatalf("caly %q ends with %d: %s", args, code, process.Errs())
	}
	return process.Out()
}

// count reads a number as the superuser.
func (p *platform) count(t *testing.T, sql string, args ...any) (n int) {
	t.Helper()
	if err := p.admin.QueryRow(t.Context(), sql, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func (p *platform) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	if _, err := p.admin.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

// roundRobin is a reverse proxy that gives each request to the next pod.
type roundRobin struct {
	url    string
	served []atomic.Int64 // by pod
}

func newRoundRobin(t *testing.T, pods []*accountsPod) *roundRobin {
	t.Helper()
	r := &roundRobin{served: make([]atomic.Int64, len(pods))}
	var turn atomic.Int64
	transport := &http.Transport{MaxIdleConnsPerHost: 256}
	forward := &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(q *httputil.ProxyRequest) {
			n := int(turn.Add(1)) % len(pods)
			r.served[n].Add(1)
			q.SetURL(&url.URL{Scheme: "http", Host: pods[n].Public})
			q.Out.Host, q.Out.Header["X-Forwarded-For"] = q.In.Host, q.In.Header["X-Forwarded-For"]
			q.SetXForwarded()
		},
	}
	server := httptest.NewServer(forward)
	r.url = server.URL
	t.Cleanup(func() { server.Close(); transport.CloseIdleConnections() })
	return r
}
