package tenant

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/jackc/pgx/v5"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/conditions"
	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/resilience"
	"github.com/caly-dev/caly/internal/secretlabel"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/kubetest"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
	"github.com/caly-dev/caly/internal/testkit/s3test"
	"github.com/caly-dev/caly/internal/testkit/tenanttest"
)

func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard()) // each manager logs to its rig
	kubetest.Main(m)
}

// soon is how long anything here may take that no retry is in the way of.
const soon = 15 * time.Second

// rig is everything around the reconciler, for real: API server, database and object store, each with room of its own.
type rig struct {
	*kubetest.Env
	ns      string // of Tenants
	work    string // of tenant configs
	uploads string // of upload configs and Jobs
	pg      *pgtest.Server
	db      *store.Operator
	s3      *s3test.Server
	bucket  string
	buckets *counting
	logs    *safeBuffer
	prover  Accounts      // nil: Exotel is not asked
	grace   time.Duration // of verifiers; 0: the default
	abandon time.Duration // of pods; 0: the default
	label   secretlabel.Label
	// identities of web identity; nil: it is off
	identities *Identities
	clock      func() time.Time // of temporary credentials; nil: the real one

	mu     sync.Mutex
	hidden []string // every value that was ever in a Tenant's Secret
}

// loopback allows the stores of tests.
func loopback() *objectstore.Transport {
	return objectstore.NewTransport(objectstore.Policy{
		AllowHTTP:    true,
		AllowedCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	}, 2)
}

func newRig(t *testing.T) *rig {
	t.Helper()
	env := kubetest.Get(t)
	r := &rig{
		Env:     env,
		ns:      env.NewNamespace(t),
		work:    env.NewNamespace(t),
		uploads: env.NewNamespace(t),
		pg:      pgtest.New(t),
		s3:      s3test.New(t),
		logs:    &safeBuffer{},
	}
	r.db = r.openStore(t)
	r.bucket = r.s3.NewBucket(t)
	// Few and quick tries, so that what is away is found away at once.
	registry := resilience.NewRegistry(resilience.Options{Policy: resilience.Policy{
		MaxAttempts: 2,
		BaseDelay:   time.Millisecond,
	}}, nil)
	r.buckets = &counting{S3: S3{Registry: registry, Transport: loopback()}, probes: map[string]int{}}
	return r
}

func (r *rig) openStore(t *testing.T) *store.Operator {
	t.Helper()
	db, err := store.OpenOperator(t.Context(), r.pg.OperatorDSN, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
}

// start runs an operator as cmd/caly does, over the rig's namespaces alone. The test ends it, or stop does.
func (r *rig) start(t *testing.T) (stop func()) {
	t.Helper()
	mgr, err := manager.New(r.Config, manager.Options{
		Scheme:     r.Scheme,
		Logger:     r.logger(),
		Metrics:    server.Options{BindAddress: "0"},
		Controller: config.Controller{SkipNameValidation: ptr.To(true)},
		Cache:      cache.Options{DefaultNamespaces: map[string]cache.Config{r.ns: {}, r.work: {}, r.uploads: {}}},
		Client:     client.Options{Cache: &client.CacheOptions{DisableFor: []client.Object{&corev1.Secret{}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	reconciler := r.reconciler(mgr)
	reconciler.Configs = &ConfigList{Client: mgr.GetClient(), APIReader: mgr.GetAPIReader(), WorkNamespace: r.work}
	if err := errors.Join(mgr.Add(reconciler.Configs), reconciler.SetupWithManager(mgr)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the manager ended with: %v", err)
		}
	})
	t.Cleanup(stop)
	t.Cleanup(func() { r.verify(t) })
	return stop
}

func (r *rig) reconciler(mgr ctrl.Manager) *Reconciler {
	return &Reconciler{
		Client:          mgr.GetClient(),
		APIReader:       mgr.GetAPIReader(),
		Recorder:        mgr.GetEventRecorder("caly-operator"),
		Store:           r.db,
		Buckets:         r.buckets,
		WorkNamespace:   r.work,
		UploadNamespace: r.uploads,
		PublicURL:       "https://voice.example/",
		VerifierGrace:   r.grace,
		AbandonAfter:    r.abandon,
		SecretLabel:     r.label,
		Identities:      r.identities,
		clock:           r.clock,
		Accounts:        r.prover,
		PlatformHosts:   tenantconfig.HostPatterns{"voice.example", "*.platform.example"},
	}
}

func (r *rig) logger() logr.Logger {
	return logr.FromSlogHandler(slog.NewTextHandler(r.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// verify runs after every test: the contract of the conditions, and no secret in anything that people read.
func (r *rig) verify(t *testing.T) {
	ctx := context.Background()
	var tenants v1alpha1.TenantList
	var events eventsv1.EventList
	if err := errors.Join(
		r.Client.List(ctx, &tenants, client.InNamespace(r.ns)),
		r.Client.List(ctx, &events, client.InNamespace(r.ns)),
	); err != nil {
		t.Fatal(err)
	}
	for i := range tenants.Items {
		if err := conditions.Check(&tenants.Items[i]); err != nil {
			t.Errorf("the contract of conditions: %v", err)
		}
	}
	seen, _ := json.Marshal([]any{tenants, events})
	for _, secret := range r.secretValues(t) {
		if bytes.Contains(seen, []byte(secret)) {
			t.Errorf("the secret %q is in a Tenant or an event:\n%s", secret, seen)
		}
		if strings.Contains(r.logs.String(), secret) {
			t.Errorf("the secret %q is in the log:\n%s", secret, r.logs)
		}
	}
}

// secretValues are the values of the Tenants' Secrets, the upload pods' database passwords, and the operator's own.
func (r *rig) secretValues(t *testing.T) []string {
	t.Helper()
	var list corev1.SecretList
	if err := r.Client.List(context.Background(), &list, client.InNamespace(r.uploads)); err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	values := append(slices.Clone(r.hidden), password(t, r.pg.OperatorDSN))
	for _, s := range list.Items {
		if up, err := tenantconfig.DecodeUpload(s.Data[tenantconfig.Key]); err == nil {
			values = append(values, password(t, up.DatabaseURL.Reveal()))
		}
	}
	return values
}

func password(t *testing.T, dsn string) string {
	t.Helper()
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	return cfg.Password
}

// secrets are the contents of a Tenant's three Secrets, by what comes behind the Tenant's name in theirs.
type secrets map[string]map[string]string

func (r *rig) goodSecrets() secrets {
	return secrets{
		"exotel":  {"apiKey": "exotel-key-7f3a", "apiToken": "exotel-token-91bc"},
		"bucket":  {"accessKeyID": r.s3.AccessKey, "secretAccessKey": r.s3.SecretKey},
		"webhook": {"current": "webhook-secret-0123456789"},
	}
}

// putSecret makes the Secret or replaces what is in it.
func (r *rig) putSecret(t *testing.T, name string, data map[string]string) {
	t.Helper()
	r.mu.Lock()
	for _, v := range data {
		if len(v) > 3 { // less is found anywhere
			r.hidden = append(r.hidden, v)
		}
	}
	r.mu.Unlock()
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: r.ns, Name: name}, StringData: data}
	err := r.Client.Create(t.Context(), secret)
	if apierrors.IsAlreadyExists(err) {
		err = r.Client.Update(t.Context(), secret)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (r *rig) putSecrets(t *testing.T, tenant string, all secrets) {
	t.Helper()
	for kind, data := range all {
		r.putSecret(t, tenant+"-"+kind, data)
	}
}

// newTenant is a Tenant that becomes ready once its Secrets are there.
func (r *rig) newTenant(name string) *v1alpha1.Tenant {
	t := tenanttest.New(r.ns, name)
	ref := func(kind string) v1alpha1.SecretReference { return v1alpha1.SecretReference{Name: name + "-" + kind} }
	t.Spec.Exotel.CredentialsSecretRef = ref(tenanttest.ExotelSecret)
	t.Spec.Exotel.PhoneNumbers = []string{"+918047491899"}
	if name != "support" { // each name belongs to one Tenant
		t.Spec.Exotel.AccountSID = "of-" + name
		t.Spec.Exotel.PhoneNumbers[0] = fmt.Sprintf("+9180%08d", crc32.ChecksumIEEE([]byte(name))%1e8)
	}
	t.Spec.Webhooks.Signature.SecretRef = ref(tenanttest.WebhookSecret)
	t.Spec.Recordings = v1alpha1.RecordingsSpec{
		Bucket:               r.bucket,
		Endpoint:             r.s3.Endpoint,
		Region:               r.s3.Region,
		CredentialsSecretRef: ptr.To(ref(tenanttest.BucketSecret)),
	}
	return t
}

func (r *rig) create(t *testing.T, o client.Object) {
	t.Helper()
	if err := r.Client.Create(t.Context(), o); err != nil {
		t.Fatal(err)
	}
}

// ready makes a Tenant with its Secrets and waits until it is ready.
func (r *rig) ready(t *testing.T, name string, change ...func(*v1alpha1.Tenant)) *v1alpha1.Tenant {
	t.Helper()
	return r.publish(t, name, isReady, change...)
}

// publish makes a Tenant with its Secrets and waits for what is wanted of it.
func (r *rig) publish(
	t *testing.T, name string, want func(*v1alpha1.Tenant) error, change ...func(*v1alpha1.Tenant),
) *v1alpha1.Tenant {
	t.Helper()
	r.putSecrets(t, name, r.goodSecrets())
	tenant := r.newTenant(name)
	for _, f := range change {
		f(tenant)
	}
	r.create(t, tenant)
	r.until(t, tenant, want)
	return tenant
}

// until waits for what is wanted of the Tenant, and holds every state in between to the contract of conditions.
func (r *rig) until(t *testing.T, tenant *v1alpha1.Tenant, want func(*v1alpha1.Tenant) error) {
	t.Helper()
	eventually.Within(soon).Succeeds(t, func(ctx context.Context) error {
		if err := r.Client.Get(ctx, client.ObjectKeyFromObject(tenant), tenant); err != nil {
			return err
		}
		if err := conditions.Check(tenant); err != nil && len(tenant.Status.Conditions) > 0 {
			t.Errorf("the contract of conditions: %v", err)
		}
		if err := kubetest.CheckKStatus(tenant); err != nil {
			t.Error(err)
		}
		if err := want(tenant); err != nil {
			return fmt.Errorf("%w; conditions: %v", err, tenant.Status.Conditions)
		}
		return nil
	})
}

// change applies f to the Tenant as it is now.
func (r *rig) change(t *testing.T, tenant *v1alpha1.Tenant, f func(*v1alpha1.Tenant)) {
	t.Helper()
	eventually.Within(soon).Succeeds(t, func(ctx context.Context) error {
		if err := r.Client.Get(ctx, client.ObjectKeyFromObject(tenant), tenant); err != nil {
			return err
		}
		f(tenant)
		return r.Client.Update(ctx, tenant)
	})
}

func isReady(t *v1alpha1.Tenant) error {
	condition := find(t, v1alpha1.ConditionReady)
	if condition == nil || condition.Status != metav1.ConditionTrue || t.Status.ObservedGeneration != t.Generation {
		return fmt.Errorf("generation %d, observed %d, not ready", t.Generation, t.Status.ObservedGeneration)
	}
	return nil
}

// has wants a condition whose message has all the parts.
func has(kind string, status metav1.ConditionStatus, reason string, parts ...string) func(*v1alpha1.Tenant) error {
	return func(t *v1alpha1.Tenant) error {
		condition := find(t, kind)
		if condition == nil || condition.Status != status || condition.Reason != reason ||
			condition.ObservedGeneration != t.Generation {
			return fmt.Errorf("no condition %s %s for %s at generation %d", kind, status, reason, t.Generation)
		}
		for _, p := range parts {
			if !strings.Contains(condition.Message, p) {
				return fmt.Errorf("the message of %s does not say %q", kind, p)
			}
		}
		return nil
	}
}

// stalledFor wants Stalled and Ready to say the same.
func stalledFor(reason string, parts ...string) func(*v1alpha1.Tenant) error {
	return both(
		has(v1alpha1.ConditionStalled, metav1.ConditionTrue, reason, parts...),
		has(v1alpha1.ConditionReady, metav1.ConditionFalse, reason, parts...),
	)
}

// reconcilingFor wants Reconciling and Ready to say the same.
func reconcilingFor(reason string, parts ...string) func(*v1alpha1.Tenant) error {
	return both(
		has(v1alpha1.ConditionReconciling, metav1.ConditionTrue, reason, parts...),
		has(v1alpha1.ConditionReady, metav1.ConditionFalse, reason, parts...),
	)
}

func both(wants ...func(*v1alpha1.Tenant) error) func(*v1alpha1.Tenant) error {
	return func(t *v1alpha1.Tenant) error {
		for _, want := range wants {
			if err := want(t); err != nil {
				return err
			}
		}
		return nil
	}
}

func (r *rig) untilGone(t *testing.T, o client.Object) {
	t.Helper()
	eventually.Within(soon).Succeeds(t, func(ctx context.Context) error {
		err := r.Client.Get(ctx, client.ObjectKeyFromObject(o), o)
		if apierrors.IsNotFound(err) {
			return nil
		}
		if tenant, ok := o.(*v1alpha1.Tenant); ok {
			return fmt.Errorf("it is still there: %v, %w", tenant.Status.Conditions, err)
		}
		return fmt.Errorf("it is still there: %w", err)
	})
}

func (r *rig) delete(t *testing.T, o client.Object) {
	t.Helper()
	if err := r.Client.Delete(t.Context(), o); err != nil {
		t.Fatal(err)
	}
}

// secret returns one of the two Secrets of the tenant, or nil if it does not exist.
func (r *rig) secret(t *testing.T, prefix string, tenant *v1alpha1.Tenant) *corev1.Secret {
	t.Helper()
	s := &corev1.Secret{}
	namespace := r.work
	if prefix == tenantconfig.PrefixUpload {
		namespace = r.uploads
	}
	key := client.ObjectKey{Namespace: namespace, Name: tenantconfig.SecretName(prefix, tenant.ID())}
	err := r.Client.Get(t.Context(), key, s)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// config reads the tenant config as a data-plane pod does.
func (r *rig) config(t *testing.T, tenant *v1alpha1.Tenant) *tenantconfig.Tenant {
	t.Helper()
	secret := r.secret(t, tenantconfig.PrefixTenant, tenant)
	if secret == nil {
		t.Fatal("there is no tenant config")
	}
	c, err := tenantconfig.DecodeTenant(secret.Data[tenantconfig.Key])
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// upload reads the upload config as an upload pod does.
func (r *rig) upload(t *testing.T, tenant *v1alpha1.Tenant) *tenantconfig.Upload {
	t.Helper()
	secret := r.secret(t, tenantconfig.PrefixUpload, tenant)
	if secret == nil {
		t.Fatal("there is no upload config")
	}
	u, err := tenantconfig.DecodeUpload(secret.Data[tenantconfig.Key])
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// one reads a number as the superuser, past every policy.
func (r *rig) one(t *testing.T, sql string, args ...any) (n int) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), r.pg.AdminDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// counting are the real Buckets, with their probes counted by tenant.
type counting struct {
	S3
	mu     sync.Mutex
	probes map[string]int
}

func (c *counting) Probe(ctx context.Context, u *tenantconfig.Upload, write bool) (objectstore.Finding, error) {
	c.mu.Lock()
	c.probes[u.ID]++
	c.mu.Unlock()
	return c.S3.Probe(ctx, u, write)
}

func (c *counting) count(id string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.probes[id]
}

// safeBuffer takes log lines from several goroutines.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
