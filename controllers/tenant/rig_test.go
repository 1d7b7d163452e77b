package tenant

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/conditions"
	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/resilience"
	"github.com/caly-dev/caly/internal/secretlabel"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/controllertest"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/kubetest"
	"github.com/caly-dev/caly/internal/testkit/s3test"
	"github.com/caly-dev/caly/internal/testkit/tenanttest"
)

func TestMain(m *testing.M) {
	controllertest.Main(m)
}

// soon is how long anything here may take that no retry is in the way of.
const soon = 15 * time.Second

// subject is the reconciler of a rig, with an object store.
type subject struct {
	*controllertest.Rig
	s3      *s3test.Server
	bucket  string
	buckets *counting
	prover  Accounts      // nil: Exotel is not asked
	grace   time.Duration // of verifiers; 0: the default
	abandon time.Duration // of pods; 0: the default
	label   secretlabel.Label
	// identities of web identity; nil: it is off
	identities *Identities
	clock      func() time.Time // of temporary credentials; nil: the real one
}

// loopback allows the stores of tests.
func loopback() *objectstore.Transport {
	return objectstore.NewTransport(objectstore.Policy{
		AllowHTTP:    true,
		AllowedCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	}, 2)
}

func newSubject(t *testing.T) *subject {
	t.Helper()
	// Few and quick tries, so that what is away is found away at once.
	registry := resilience.NewRegistry(resilience.Options{Policy: resilience.Policy{
		MaxAttempts: 2,
		BaseDelay:   time.Millisecond,
	}}, nil)
	r := &subject{
		Rig:     controllertest.New(t),
		s3:      s3test.New(t),
		buckets: &counting{S3: S3{Registry: registry, Transport: loopback()}, probes: map[string]int{}},
	}
	r.bucket = r.s3.NewBucket(t)
	return r
}

// start runs an operator as cmd/caly does, over the rig's namespaces alone. The test ends it, or stop does.
func (r *subject) start(t *testing.T) (stop func()) {
	t.Helper()
	mgr := r.Manager(t)
	reconciler := r.reconciler(mgr)
	reconciler.Configs = &ConfigList{Client: mgr.GetClient(), APIReader: mgr.GetAPIReader(), WorkNamespace: r.Work}
	if err := errors.Join(mgr.Add(reconciler.Configs), reconciler.SetupWithManager(mgr)); err != nil {
		t.Fatal(err)
	}
	stop = controllertest.Start(t, mgr)
	t.Cleanup(func() { r.verify(t) })
	return stop
}

func (r *subject) reconciler(mgr ctrl.Manager) *Reconciler {
	return &Reconciler{
		Client:          mgr.GetClient(),
		APIReader:       mgr.GetAPIReader(),
		Recorder:        mgr.GetEventRecorder("caly-operator"),
		Store:           r.DB,
		Buckets:         r.buckets,
		WorkNamespace:   r.Work,
		UploadNamespace: r.Uploads,
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

// verify runs after every test. The database passwords of the upload pods and of the operator are hidden too.
func (r *subject) verify(t *testing.T) {
	t.Helper()
	r.Hide(password(t, r.PG.OperatorDSN))
	var list corev1.SecretList
	if err := r.Client.List(context.Background(), &list, client.InNamespace(r.Uploads)); err != nil {
		t.Fatal(err)
	}
	for _, s := range list.Items {
		if up, err := tenantconfig.DecodeUpload(s.Data[tenantconfig.Key]); err == nil {
			r.Hide(password(t, up.DatabaseURL.Reveal()))
		}
	}
	r.CheckTenants(t)
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

func (r *subject) goodSecrets() secrets {
	return secrets{
		"exotel":  {"apiKey": "exotel-key-7f3a", "apiToken": "exotel-token-91bc"},
		"bucket":  {"accessKeyID": r.s3.AccessKey, "secretAccessKey": r.s3.SecretKey},
		"webhook": {"current": "webhook-secret-0123456789"},
	}
}

func (r *subject) putSecrets(t *testing.T, tenant string, all secrets) {
	t.Helper()
	for kind, data := range all {
		r.PutSecret(t, tenant+"-"+kind, data)
	}
}

// newTenant is a Tenant that becomes ready once its Secrets are there.
func (r *subject) newTenant(name string) *v1alpha1.Tenant {
	t := tenanttest.New(r.Namespace, name)
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

// ready makes a Tenant with its Secrets and waits until it is ready.
func (r *subject) ready(t *testing.T, name string, change ...func(*v1alpha1.Tenant)) *v1alpha1.Tenant {
	t.Helper()
	return r.publish(t, name, isReady, change...)
}

// publish makes a Tenant with its Secrets and waits for what is wanted of it.
func (r *subject) publish(
	t *testing.T, name string, want func(*v1alpha1.Tenant) error, change ...func(*v1alpha1.Tenant),
) *v1alpha1.Tenant {
	t.Helper()
	r.putSecrets(t, name, r.goodSecrets())
	tenant := r.newTenant(name)
	for _, f := range change {
		f(tenant)
	}
	r.Create(t, tenant)
	r.until(t, tenant, want)
	return tenant
}

// until waits for what is wanted of the Tenant, and holds every state in between to the contract of conditions.
func (r *subject) until(t *testing.T, tenant *v1alpha1.Tenant, want func(*v1alpha1.Tenant) error) {
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
func (r *subject) change(t *testing.T, tenant *v1alpha1.Tenant, f func(*v1alpha1.Tenant)) {
	t.Helper()
	controllertest.Update(t, r.Rig, tenant, f)
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

// secret returns one of the two Secrets of the tenant, or nil if it does not exist.
func (r *subject) secret(t *testing.T, prefix string, tenant *v1alpha1.Tenant) *corev1.Secret {
	t.Helper()
	s := &corev1.Secret{}
	namespace := r.Work
	if prefix == tenantconfig.PrefixUpload {
		namespace = r.Uploads
	}
	if !r.Find(t, namespace, tenantconfig.SecretName(prefix, tenant.ID()), s) {
		return nil
	}
	return s
}

// config reads the tenant config as a data-plane pod does.
func (r *subject) config(t *testing.T, tenant *v1alpha1.Tenant) *tenantconfig.Tenant {
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
func (r *subject) upload(t *testing.T, tenant *v1alpha1.Tenant) *tenantconfig.Upload {
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
