package keyring

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/keyring"
	"github.com/caly-dev/caly/internal/metric"
	"github.com/caly-dev/caly/internal/testkit/controllertest"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/metrictest"
)

func TestMain(m *testing.M) { controllertest.Main(m) }

// subject is a Keeper in a cluster of the test's own, with a clock that the test moves.
type subject struct {
	*controllertest.Cluster
	*Keeper
	t     *testing.T
	reg   *prometheus.Registry
	ctx   context.Context
	clock *clocktesting.FakeClock
}

func newSubject(t *testing.T) *subject {
	t.Helper()
	r := &subject{
		Cluster: controllertest.NewCluster(t),
		t:       t,
		reg:     prometheus.NewRegistry(),
		clock:   clocktesting.NewFakeClock(time.Now().Truncate(time.Second)),
	}
	r.Keeper = r.another()
	r.ctx = log.IntoContext(t.Context(), r.Logger())
	r.Metrics = NewMetrics(r.reg)
	t.Cleanup(r.verify)
	return r
}

// another returns a keeper of the same Secret, as a second operator has one.
func (r *subject) another() *Keeper {
	return &Keeper{
		Client:        r.Cluster.Client,
		APIReader:     r.Cluster.Client,
		WorkNamespace: r.Work,
		Now:           r.clock.Now,
		Every:         20 * time.Millisecond,
		Metrics:       NewMetrics(prometheus.NewRegistry()),
	}
}

func (r *subject) secret() *corev1.Secret {
	r.t.Helper()
	var s corev1.Secret
	if !r.Find(r.t, r.Work, keyring.SecretName, &s) {
		r.t.Fatal("the keyring does not exist")
	}
	return &s
}

func (r *subject) ring() *keyring.Ring {
	r.t.Helper()
	ring, err := keyring.Decode(r.secret().Data[keyring.DataKey])
	if err != nil {
		r.t.Fatal(err)
	}
	return ring
}

func (r *subject) mustKeep() {
	r.t.Helper()
	if err := r.keep(r.ctx); err != nil {
		r.t.Fatal(err)
	}
}

// spoil writes something else into the Secret.
func (r *subject) spoil(change func(*corev1.Secret)) {
	r.t.Helper()
	secret := r.secret()
	change(secret)
	if err := r.Cluster.Client.Update(r.t.Context(), secret); err != nil {
		r.t.Fatal(err)
	}
}

func (r *subject) remove() {
	r.t.Helper()
	r.Delete(r.t, r.secret())
}

// verify runs after each test. It checks that no key of the ring at the end is in the log.
func (r *subject) verify() {
	var s corev1.Secret
	key := client.ObjectKey{Namespace: r.Work, Name: keyring.SecretName}
	err := r.Cluster.Client.Get(context.Background(), key, &s)
	ring, bad := keyring.Decode(s.Data[keyring.DataKey])
	if err != nil || bad != nil {
		return
	}
	text, _ := ring.Secret.MarshalText()
	r.Hide(ring.Secret.Reveal(), string(text))
	for _, k := range ring.Keys {
		r.Hide(k.Seed.Reveal())
	}
	r.CheckTenants(r.t)
}

// metrics returns the values of the Keeper's metrics by their names without the prefix.
func (r *subject) metrics() map[string]float64 {
	r.t.Helper()
	got := map[string]float64{}
	for name, value := range metrictest.Values(r.t, r.reg) {
		got[strings.TrimPrefix(name, "caly_keyring_")] = value
	}
	return got
}

func TestMakesAndRotates(t *testing.T) {
	rig := newSubject(t)
	rig.mustKeep()
	secret := rig.secret()
	first := rig.ring()
	if string(secret.Type) != v1alpha1.SecretTypeKeyring || len(secret.Data) != 1 ||
		secret.Labels[v1alpha1.LabelComponent] != "keyring" {
		t.Errorf("Secret of type %s, %d data, labels %v", secret.Type, len(secret.Data), secret.Labels)
	}
	rig.clock.Step(29 * 24 * time.Hour)
	rig.mustKeep()
	if rig.secret().ResourceVersion != secret.ResourceVersion {
		t.Error("it was written without a reason")
	}
	rig.clock.Step(24*time.Hour - keyring.DefaultLead)
	rig.mustKeep()
	if ring := rig.ring(); len(ring.Keys) != 2 || ring.Secret != first.Secret || ring.Keys[0].ID != first.Keys[0].ID {
		t.Errorf("%d keys, the same secret: %v", len(ring.Keys), ring.Secret == first.Secret)
	}
	rig.clock.Step(keyring.DefaultLead + time.Minute)
	rig.mustKeep()
	want := map[string]float64{
		"signing_key_created_timestamp_seconds": metric.Seconds(rig.ring().Keys[1].CreatedAt),
		"made_total missing":                    1,
		"made_total unreadable":                 0,
		"rotations_total":                       1,
		"failures_total":                        0,
	}
	if d := cmp.Diff(want, rig.metrics()); d != "" {
		t.Errorf("metrics (-want +got):\n%s", d)
	}
}

func TestRepairs(t *testing.T) {
	const another = "another"
	for name, tc := range map[string]struct {
		harm func(*subject)
		want string // same or another ring
		log  string
	}{
		"deleted": {(*subject).remove, another, "there is none"},
		"emptied": {func(r *subject) { r.spoil(func(s *corev1.Secret) { s.Data = nil }) }, another, "not the JSON"},
		"garbage": {func(r *subject) {
			r.spoil(func(s *corev1.Secret) { s.Data[keyring.DataKey] = []byte("x") })
		}, another, "not the JSON"},
		"two fields": {func(r *subject) {
			r.spoil(func(s *corev1.Secret) { s.Data["more"] = []byte("x") })
		}, "same", ""},
		"labels gone": {func(r *subject) {
			r.spoil(func(s *corev1.Secret) { s.Labels = nil })
		}, "same", ""},
		"another type": {func(r *subject) {
			secret := r.secret()
			r.remove()
			secret = &corev1.Secret{
				ObjectMeta: metav1.ObjectMeta{Namespace: secret.Namespace, Name: secret.Name},
				Data:       secret.Data,
			}
			r.Create(r.t, secret)
		}, another, "was of type"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newSubject(t)
			r.mustKeep()
			before := r.ring()
			tc.harm(r)
			r.mustKeep()
			got := "same"
			want := tc.want
			if after := r.ring(); after.Secret != before.Secret && after.Keys[0].ID != before.Keys[0].ID {
				got = another
			}
			if got != want || !strings.Contains(r.Logs.String(), tc.log) {
				t.Errorf("%s ring, want %s; the log:\n%s", got, want, r.Logs)
			}
			if m := r.metrics(); (m["made_total missing"]+m["made_total unreadable"] == 2) != (want == another) {
				t.Errorf("metrics %v", m)
			}
		})
	}
}

// TestLeavesANewerRingAlone verifies that the keeper does not replace a ring of a newer version, such as after a
// downgrade. The keys are still valid, and a new ring would force all users to log in again.
func TestLeavesANewerRingAlone(t *testing.T) {
	rig := newSubject(t)
	rig.mustKeep()
	rig.spoil(func(s *corev1.Secret) { s.Data[keyring.DataKey] = []byte(`{"version":2,"new":true}`) })
	before := rig.secret().ResourceVersion
	if err := rig.keep(rig.ctx); !errors.Is(err, keyring.ErrVersion) || rig.secret().ResourceVersion != before {
		t.Errorf("%v, written: %v", err, rig.secret().ResourceVersion != before)
	}
}

// TestTwoOperators verifies that, of the previous and the current leader, one writes and both end with the same ring.
func TestTwoOperators(t *testing.T) {
	rig := newSubject(t)
	other := rig.another()
	for _, name := range []string{"the first ring", "a rotation"} {
		rig.clock.Step(30 * 24 * time.Hour)
		// The other one writes between this one's read and its write.
		between := interceptor.NewClient(rig.Cluster.Client, interceptor.Funcs{
			Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
				return errors.Join(other.keep(rig.ctx), c.Create(ctx, o, opts...))
			},
			Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
				return errors.Join(other.keep(rig.ctx), c.Patch(ctx, o, p, opts...))
			},
		})
		rig.Client = between
		if err := rig.keep(rig.ctx); !apierrors.IsConflict(unjoined(err)) && !apierrors.IsAlreadyExists(unjoined(err)) {
			t.Errorf("%s: %v", name, err)
		}
		theirs := rig.ring()
		rig.Client = rig.Cluster.Client
		rig.mustKeep()
		if d := cmp.Diff(theirs, rig.ring()); d != "" {
			t.Errorf("%s: it was written over", name)
		}
	}
}

func unjoined(err error) error {
	var status *apierrors.StatusError
	if errors.As(err, &status) {
		return status
	}
	return err
}

// TestRuns until it is told to stop, through a deletion and an API server that refuses, and with no more rights than the operator has.
func TestRuns(t *testing.T) {
	rig := newSubject(t)
	ignore := goleak.IgnoreCurrent()
	c := rig.asOperator()
	rig.Client = c
	rig.APIReader = c
	ctx, cancel := context.WithCancel(rig.ctx)
	ended := make(chan error, 1)
	go func() { ended <- rig.Start(ctx) }()
	exists := func(ctx context.Context) error {
		key := client.ObjectKey{Namespace: rig.WorkNamespace, Name: keyring.SecretName}
		return rig.Cluster.Client.Get(ctx, key, &corev1.Secret{})
	}
	eventually.Within(10*time.Second).Succeeds(t, exists)
	first := rig.ring()
	rig.remove()
	eventually.Within(10*time.Second).Succeeds(t, exists)
	second := rig.ring()
	if first.Secret == second.Secret {
		t.Error("the deleted ring is back")
	}
	rig.spoil(func(s *corev1.Secret) { s.Data[keyring.DataKey] = []byte(`{"version":2}`) })
	eventually.Within(10*time.Second).Succeeds(t, func(context.Context) error {
		if n := rig.metrics()["failures_total"]; n < 3 {
			return errors.New("too few failures are counted")
		}
		return nil
	})
	if n := strings.Count(rig.Logs.String(), "level=ERROR"); n != 1 {
		t.Errorf("%d errors in the log, want one for all looks:\n%s", n, rig.Logs)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	goleak.VerifyNone(
		t,
		ignore,
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
		goleak.IgnoreAnyFunction("golang.org/x/net/http2.(*ClientConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http/internal/http2.(*ClientConn).readLoop"),
	)
}

// asOperator is a client with the rights that config/rbac gives in the work namespace.
func (r *subject) asOperator() client.Client {
	r.t.Helper()
	meta := metav1.ObjectMeta{Namespace: r.WorkNamespace, Name: "operator"}
	role := &rbacv1.Role{
		ObjectMeta: meta,
		Rules: []rbacv1.PolicyRule{{
			APIGroups: []string{""},
			Resources: []string{"secrets"},
			Verbs:     []string{"get", "list", "watch", "create", "patch", "delete"},
		}},
	}
	binding := &rbacv1.RoleBinding{
		ObjectMeta: meta,
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "operator"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: "operator-" + r.WorkNamespace}},
	}
	for _, o := range []client.Object{role, binding} {
		r.Create(r.t, o)
	}
	cfg := rest.CopyConfig(r.Config)
	cfg.Impersonate = rest.ImpersonationConfig{UserName: "operator-" + r.WorkNamespace}
	c, err := client.New(cfg, client.Options{Scheme: r.Scheme})
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

func TestStartRefusesAPolicy(t *testing.T) {
	k := &Keeper{Policy: keyring.Policy{Period: time.Minute}}
	if err := k.Start(t.Context()); err == nil {
		t.Error("a key that signs for a minute")
	}
	if !k.NeedLeaderElection() {
		t.Error("it runs on every operator")
	}
}
