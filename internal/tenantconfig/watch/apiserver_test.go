package watch_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/tenantconfig/watch"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/kubetest"
)

func TestMain(m *testing.M) { kubetest.Main(m) }

const firstSecret, secondSecret = "the first signing secret", "the second signing secret"

func config(id, signing string) tenantconfig.Tenant {
	return tenantconfig.Tenant{
		Version:            tenantconfig.Version,
		ID:                 id,
		UID:                "u",
		TimeZone:           "Asia/Kolkata",
		AllowedSourceHosts: []string{"a.example"},
		Freshness:          tenantconfig.DefaultFreshness,
		Webhooks: &tenantconfig.Webhooks{Signature: &tenantconfig.Signature{
			Scheme:  tenantconfig.SchemeHMACSHA1,
			Secrets: []secret.Sensitive{secret.Sensitive(signing)},
		}},
	}
}

// workspace is a work namespace of the test's own, written as the operator writes it.
type workspace struct {
	t         *testing.T
	client    client.Client
	namespace string
}

func newWorkspace(t *testing.T) workspace {
	t.Helper()
	env := kubetest.Get(t)
	return workspace{t, env.Client, env.NewNamespace(t)}
}

func (w workspace) secret(id string, data []byte) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: w.namespace,
			Name:      tenantconfig.SecretName(tenantconfig.PrefixTenant, id),
		},
		Type: v1alpha1.SecretTypeTenantConfig,
		Data: map[string][]byte{tenantconfig.Key: data},
	}
}

func (w workspace) encode(c tenantconfig.Tenant) []byte {
	w.t.Helper()
	data, err := tenantconfig.EncodeTenant(c)
	if err != nil {
		w.t.Fatal(err)
	}
	return data
}

func (w workspace) create(s *corev1.Secret) {
	w.t.Helper()
	if err := w.client.Create(w.t.Context(), s); err != nil {
		w.t.Fatal(err)
	}
}

func (w workspace) update(id string, data []byte) {
	w.t.Helper()
	if err := w.client.Update(w.t.Context(), w.secret(id, data)); err != nil {
		w.t.Fatal(err)
	}
}

// list writes the list of tenant configs.
func (w workspace) list(ids ...string) {
	w.t.Helper()
	names := map[string]struct{}{}
	for _, id := range ids {
		names[tenantconfig.SecretName(tenantconfig.PrefixTenant, id)] = struct{}{}
	}
	list := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: tenantconfig.ListSecretName},
		Type:       v1alpha1.SecretTypeTenantConfigList,
		Data:       map[string][]byte{tenantconfig.ListKey: tenantconfig.EncodeList(names)},
	}
	err := w.client.Create(w.t.Context(), list)
	if apierrors.IsAlreadyExists(err) {
		err = w.client.Update(w.t.Context(), list)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w workspace) remove(id string) {
	w.t.Helper()
	if err := w.client.Delete(w.t.Context(), w.secret(id, nil)); err != nil {
		w.t.Fatal(err)
	}
}

// watching is a started watcher that has read what there is.
func (w workspace) watching(address string) *watch.Watcher {
	w.t.Helper()
	watcher := w.start(address, slog.DiscardHandler)
	eventually.Within(30*time.Second).Holds(w.t, "the watcher is synced", watcher.Synced)
	return watcher
}

// start runs a watcher until the test ends, then sees that no goroutine of it is left. Its client reaches the API server
// at address, which may be a line that the test can cut.
func (w workspace) start(address string, log slog.Handler) *watch.Watcher {
	return w.startWith(address, log, 0)
}

// startWith gives deleted configs a grace period.
func (w workspace) startWith(address string, log slog.Handler, grace time.Duration) *watch.Watcher {
	w.t.Helper()
	before := goleak.IgnoreCurrent()
	cfg := rest.CopyConfig(kubetest.Get(w.t).Config)
	cfg.Host = address
	// With a dialer of its own the client shares no connections with others, and they can be ended.
	var conns connections
	cfg.Dial = conns.dial
	clients, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	watcher := watch.New(clients, w.namespace, slog.New(log))
	watcher.Grace = grace
	ctx, stop := context.WithCancel(context.Background())
	end := make(chan error, 1)
	go func() { end <- watcher.Run(ctx) }()
	w.t.Cleanup(func() {
		stop()
		if err := <-end; err != nil {
			w.t.Errorf("the watcher ended with %v", err)
		}
		conns.close()
		goleak.VerifyNone(w.t, before)
	})
	return watcher
}

// connections that were made, to be ended.
type connections struct {
	mu   sync.Mutex
	list []net.Conn
}

func (c *connections) add(conns ...net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, conns...)
}

func (c *connections) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.list {
		_ = conn.Close()
	}
	c.list = nil
}

func (c *connections) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, network, address)
	if err == nil {
		c.add(conn)
	}
	return conn, err
}

// signs tells whether the snapshot knows the tenant with that secret.
func signs(s *tenantconfig.Snapshot, id, secret string) bool {
	t, ok := s.Tenant(id)
	return ok && t.Webhooks.Signature.Secrets[0].Reveal() == secret
}

func TestRotationIsLiveAtOnce(t *testing.T) {
	workspace := newWorkspace(t)
	workspace.create(workspace.secret("acme/support", workspace.encode(config("acme/support", firstSecret))))
	watcher := workspace.watching(kubetest.Get(t).Config.Host)
	old := watcher.Snapshot()
	if !signs(old, "acme/support", firstSecret) {
		t.Fatal("a config that was there at start is not known")
	}
	workspace.update("acme/support", workspace.encode(config("acme/support", secondSecret)))
	eventually.Within(tenantconfig.RefreshDelay).Holds(workspace.t, "the rotated secret is live", func() bool {
		return signs(watcher.Snapshot(), "acme/support", secondSecret)
	})
	if !signs(old, "acme/support", firstSecret) {
		t.Error("a snapshot that was taken before has changed")
	}
	workspace.create(workspace.secret("globex/sales", workspace.encode(config("globex/sales", firstSecret))))
	eventually.Within(tenantconfig.RefreshDelay).Holds(workspace.t, "a new tenant is known", func() bool {
		return watcher.Snapshot().Len() == 2
	})
	workspace.list("globex/sales")
	workspace.remove("acme/support")
	eventually.Within(tenantconfig.RefreshDelay).Holds(workspace.t, "a removed tenant is unknown", func() bool {
		return !signs(watcher.Snapshot(), "acme/support", secondSecret)
	})
	if watcher.Snapshot().Len() != 1 || watcher.Rejected() != 0 {
		t.Errorf("%d tenants, %d rejected", watcher.Snapshot().Len(), watcher.Rejected())
	}
}

// TestBadConfigs verifies that an unreadable config is counted and leaves the last good config in force.
func TestBadConfigs(t *testing.T) {
	changed := func(f func(map[string]any)) func(workspace) []byte {
		return func(w workspace) []byte {
			var fields map[string]any
			if err := json.Unmarshal(w.encode(config("acme/support", secondSecret)), &fields); err != nil {
				w.t.Fatal(err)
			}
			f(fields)
			data, _ := json.Marshal(fields)
			return data
		}
	}
	for name, data := range map[string]func(workspace) []byte{
		"another version": changed(func(m map[string]any) { m["version"] = tenantconfig.Version + 1 }),
		"another tenant":  changed(func(m map[string]any) { m["id"] = "globex/sales" }),
		"no tenant":       changed(func(m map[string]any) { delete(m, "id") }),
		"another scheme": changed(func(m map[string]any) {
			m["webhooks"] = map[string]any{"signature": map[string]any{"scheme": "NONE"}}
		}),
		"garbage":          func(workspace) []byte { return []byte("\x00garbage") },
		"nothing":          func(workspace) []byte { return nil },
		"half of a config": func(w workspace) []byte { return w.encode(config("acme/support", secondSecret))[:40] },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorkspace(t)
			w.create(w.secret("acme/support", w.encode(config("acme/support", firstSecret))))
			watcher := w.watching(kubetest.Get(t).Config.Host)
			w.update("acme/support", data(w))
			eventually.Within(tenantconfig.RefreshDelay).Holds(w.t, "the bad config is counted", func() bool {
				return watcher.Rejected() == 1
			})
			if !signs(watcher.Snapshot(), "acme/support", firstSecret) || watcher.Snapshot().Len() != 1 {
				t.Error("the last good config is not in force")
			}
			w.update("acme/support", w.encode(config("acme/support", secondSecret)))
			eventually.Within(tenantconfig.RefreshDelay).Holds(w.t, "the corrected config is live", func() bool {
				return signs(watcher.Snapshot(), "acme/support", secondSecret)
			})
			w.update("acme/support", data(w))
			w.list()
			w.remove("acme/support")
			eventually.Within(tenantconfig.RefreshDelay).Holds(w.t, "the tenant of a bad config is removed",
				func() bool {
					return watcher.Snapshot().Len() == 0
				})
		})
	}
}

// TestOtherSecrets verifies that a tenant config is a Secret with the right type in the work namespace, and no other
// Secret.
func TestOtherSecrets(t *testing.T) {
	workspace := newWorkspace(t)
	watcher := workspace.watching(kubetest.Get(t).Config.Host)
	other := workspace.secret("acme/support", workspace.encode(config("acme/support", firstSecret)))
	other.Type = corev1.SecretTypeOpaque
	workspace.create(other)
	elsewhere := newWorkspace(t)
	elsewhere.create(elsewhere.secret("globex/sales", workspace.encode(config("globex/sales", firstSecret))))
	workspace.create(
		workspace.secret("initech/help", workspace.encode(config("initech/help", firstSecret))),
	) // comes after the others on the same watch
	eventually.Within(tenantconfig.RefreshDelay).Holds(workspace.t, "the true config is known", func() bool {
		return signs(watcher.Snapshot(), "initech/help", firstSecret)
	})
	if watcher.Snapshot().Len() != 1 || watcher.Rejected() != 0 {
		t.Errorf("%d tenants, %d rejected", watcher.Snapshot().Len(), watcher.Rejected())
	}
}

// slowLog blocks a goroutine that logs an error until it is opened: a slow reader of configs.
type slowLog struct {
	slog.Handler
	entered, open chan struct{}
}

func (l slowLog) Enabled(context.Context, slog.Level) bool { return true }

func (l slowLog) Handle(_ context.Context, r slog.Record) error {
	if r.Level == slog.LevelError {
		close(l.entered)
		<-l.open
	}
	return nil
}

// TestSyncedMeansRead verifies that the watcher is not synced before it has read all configs, however long that takes.
// A ready pod must not reject a tenant whose config it has not read.
func TestSyncedMeansRead(t *testing.T) {
	workspace := newWorkspace(t)
	workspace.create(workspace.secret("acme/support", workspace.encode(config("acme/support", firstSecret))))
	workspace.create(workspace.secret("globex/sales", []byte("garbage")))
	log := slowLog{slog.DiscardHandler, make(chan struct{}), make(chan struct{})}
	watcher := workspace.start(kubetest.Get(t).Config.Host, log)
	<-log.entered
	open := sync.OnceFunc(func() { close(log.open) })
	defer open()
	eventually.For(time.Second).Stays(t, func(context.Context) error {
		if watcher.Synced() || watcher.Snapshot().Len() != 0 {
			return errors.New("it is synced before the last config is read")
		}
		return nil
	})
	open()
	eventually.Within(30*time.Second).Holds(workspace.t, "it is synced", watcher.Synced)
	if !signs(watcher.Snapshot(), "acme/support", firstSecret) || watcher.Snapshot().Len() != 1 {
		t.Errorf("synced with %d tenants", watcher.Snapshot().Len())
	}
}

// line is a connection to the API server that can be cut and repaired.
type line struct {
	t        *testing.T
	target   string
	address  string
	listener net.Listener
	conns    connections
}

func newLine(t *testing.T) *line {
	t.Helper()
	u, err := url.Parse(kubetest.Get(t).Config.Host)
	if err != nil {
		t.Fatal(err)
	}
	if u.Host == "" {
		u.Host = kubetest.Get(t).Config.Host // without a scheme
	}
	l := &line{t: t, target: u.Host, address: "127.0.0.1:0"}
	l.repair()
	l.address = l.listener.Addr().String()
	return l
}

// repair lets connections through.
func (l *line) repair() {
	l.t.Helper()
	var err error
	if l.listener, err = net.Listen("tcp", l.address); err != nil {
		l.t.Fatal(err)
	}
	go func(listener net.Listener) {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go l.carry(conn)
		}
	}(l.listener)
}

func (l *line) carry(c net.Conn) {
	server, err := net.Dial("tcp", l.target)
	if err != nil {
		_ = c.Close()
		return
	}
	l.conns.add(c, server)
	go func() {
		_, _ = io.Copy(server, c)
		_ = server.Close()
	}()
	_, _ = io.Copy(c, server)
	_ = c.Close()
}

// cut ends all connections and refuses new ones.
func (l *line) cut() {
	_ = l.listener.Close()
	l.conns.close()
}

// TestAPIServerAway verifies that the last configs stay in force while the API server is unreachable. Afterwards the
// watcher catches up.
func TestAPIServerAway(t *testing.T) {
	workspace := newWorkspace(t)
	for _, id := range []string{"acme/support", "globex/sales"} {
		workspace.create(workspace.secret(id, workspace.encode(config(id, firstSecret))))
	}
	workspace.list("acme/support")
	line := newLine(t)
	t.Cleanup(line.cut)
	watcher := workspace.watching("https://" + line.address)
	line.cut()
	workspace.update("acme/support", workspace.encode(config("acme/support", secondSecret)))
	workspace.remove("globex/sales")
	workspace.create(workspace.secret("initech/help", workspace.encode(config("initech/help", firstSecret))))
	if !signs(watcher.Snapshot(), "acme/support", firstSecret) ||
		!signs(watcher.Snapshot(), "globex/sales", firstSecret) ||
		!watcher.Synced() {
		t.Error("without the API server the last good configs are not in force")
	}
	line.repair()
	eventually.Within(time.Minute).Holds(workspace.t, "what was missed is known", func() bool {
		snapshot := watcher.Snapshot()
		return snapshot.Len() == 2 && signs(snapshot, "acme/support", secondSecret) &&
			signs(snapshot, "initech/help", firstSecret)
	})
	line.cut()
}

// TestStoppedBeforeSync verifies that a pod ends when it is stopped while the API server is unreachable.
func TestStoppedBeforeSync(t *testing.T) {
	line := newLine(t)
	line.cut()
	clients, err := kubernetes.NewForConfig(&rest.Config{Host: "https://" + line.address})
	if err != nil {
		t.Fatal(err)
	}
	watcher := watch.New(clients, "caly-work", slog.New(slog.DiscardHandler))
	ctx, stop := context.WithCancel(t.Context())
	end := make(chan error, 1)
	go func() { end <- watcher.Run(ctx) }()
	stop()
	select {
	case err := <-end:
		if err == nil || watcher.Synced() {
			t.Errorf("ended with %v, synced %v", err, watcher.Synced())
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it does not end")
	}
}
