package tenant

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/controllers/internal/reconcile"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/eventually"
)

// withHosts gives a Tenant accounts and host names.
func withHosts(hosts ...string) func(*v1alpha1.Tenant) {
	return func(t *v1alpha1.Tenant) { t.Spec.Auth = &v1alpha1.AuthSpec{Hosts: hosts} }
}

// withExotel gives a Tenant an account and telephone numbers.
func withExotel(account string, numbers ...string) func(*v1alpha1.Tenant) {
	return func(t *v1alpha1.Tenant) {
		t.Spec.Exotel.AccountSID = account
		t.Spec.Exotel.PhoneNumbers = numbers
	}
}

// lacks wants a Tenant that is stalled for a name, whose config is published all the same.
func lacks(reason string, parts ...string) func(*v1alpha1.Tenant) error {
	return func(t *v1alpha1.Tenant) error {
		if t.Status.ConfigDigest == "" {
			return fmt.Errorf("no config is published")
		}
		return both(
			stalledFor(reason, parts...),
			has(v1alpha1.ConditionNamesHeld, metav1.ConditionFalse, reason, parts...),
			has(v1alpha1.ConditionStorageReachable, metav1.ConditionTrue, v1alpha1.ReasonBucketReachable),
		)(t)
	}
}

// namesIn are the names of a published config.
func (r *subject) namesIn(t *testing.T, tenant *v1alpha1.Tenant) []string {
	t.Helper()
	config := r.config(t, tenant)
	list := append([]string{config.AccountSID}, config.PhoneNumbers...)
	if config.Auth != nil {
		list = append(list, config.Auth.Hosts...)
	}
	return list
}

func (r *subject) wantNames(t *testing.T, tenant *v1alpha1.Tenant, want ...string) {
	t.Helper()
	eventually.Within(soon).Succeeds(t, func(context.Context) error {
		if diff := cmp.Diff(want, r.namesIn(t, tenant)); diff != "" {
			return fmt.Errorf("names of %s (-want +got):\n%s", tenant.Name, diff)
		}
		return nil
	})
}

// TestNewTenantTakesNoName writes every name of a Tenant into a second one.
func TestNewTenantTakesNoName(t *testing.T) {
	t.Parallel()
	rig := newSubject(t)
	rig.start(t)
	acme := rig.ready(t, "acme", withHosts("voice.acme.example"), withExotel("acme1", "+918047491899"))
	evil := rig.publish(t, "evil", lacks(v1alpha1.ReasonNameTaken, `spec.exotel.accountSID: "ACME1"`,
		`spec.exotel.phoneNumbers: "+8047491899"`, `spec.auth.hosts: "voice.acme.example"`, "another Tenant holds it"),
		withHosts("voice.acme.example", "evil.example"), withExotel("ACME1", "+8047491899", "+918000000001"))
	for _, c := range evil.Status.Conditions {
		if strings.Contains(c.Message, acme.Name+"/") || strings.Contains(c.Message, acme.ID()) {
			t.Errorf("the condition %s names the holder: %s", c.Type, c.Message)
		}
	}
	if !strings.Contains(rig.Logs.String(), "holder="+acme.ID()) {
		t.Error("the operator's log does not name the holder")
	}
	rig.until(t, acme, isReady)
	rig.wantNames(t, acme, "acme1", "+918047491899", "voice.acme.example")
	rig.wantNames(t, evil, "", "+918000000001", "evil.example")
	if len(evil.Status.WebhookURLs) == 0 {
		t.Error("the Tenant has no webhook URLs: all but the names must work")
	}

	// The holder drops one name and is deleted later. The other Tenant gets each name within seconds.
	rig.change(t, acme, func(t *v1alpha1.Tenant) { t.Spec.Auth.Hosts = []string{"new.acme.example"} })
	rig.wantNames(t, evil, "", "+918000000001", "voice.acme.example", "evil.example")
	rig.Delete(t, acme)
	rig.until(t, evil, isReady)
	rig.wantNames(t, evil, "ACME1", "+8047491899", "+918000000001", "voice.acme.example", "evil.example")
}

// TestOlderTenantTakesNoName adds the name of a younger Tenant to an older one: the name stays where it is published.
func TestOlderTenantTakesNoName(t *testing.T) {
	rig := newSubject(t)
	rig.start(t)
	older := rig.ready(t, "older")
	younger := rig.ready(t, "younger", withHosts("voice.acme.example"))
	rig.change(t, older, withHosts("voice.acme.example"))
	rig.until(t, older, lacks(v1alpha1.ReasonNameTaken, "voice.acme.example"))
	rig.until(t, younger, isReady)
	if got := rig.config(t, younger).Auth.Hosts; !slices.Equal(got, []string{"voice.acme.example"}) {
		t.Errorf("the younger Tenant has the hosts %v", got)
	}
}

// TestHostsOfThePlatform writes hosts of the platform into a Tenant, in every spelling that the API server accepts.
func TestHostsOfThePlatform(t *testing.T) {
	t.Parallel()
	rig := newSubject(t)
	rig.start(t)
	tenant := rig.ready(t, "acme", withHosts("voice.acme.example"))
	for _, host := range []string{
		"voice.example", "localhost", "caly-dataplane.caly-system.svc", "caly-dataplane.caly-system.svc.cluster.local",
		"10.0.0.1", "caly-dataplane", "console.platform.example",
	} {
		rig.change(t, tenant, withHosts("voice.acme.example", host))
		rig.until(t, tenant, lacks(v1alpha1.ReasonNameNotAllowed, fmt.Sprintf("spec.auth.hosts: %q", host),
			"the platform does not allow it"))
		if got := rig.config(t, tenant).Auth.Hosts; !slices.Equal(got, []string{"voice.acme.example"}) {
			t.Errorf("%s: the config has the hosts %v", host, got)
		}
	}
	rig.change(t, tenant, withHosts("voice.acme.example"))
	rig.until(t, tenant, isReady)
}

func TestAllowedHosts(t *testing.T) {
	t.Parallel()
	rig := newSubject(t)
	rig.start(t)
	tenant := rig.ready(t, "acme", withHosts("voice.acme.example", "globex.example"))
	rig.annotate(t, v1alpha1.AnnotationAllowedHosts, "acme.example, *.acme.example")
	rig.until(t, tenant, lacks(v1alpha1.ReasonNameNotAllowed, `spec.auth.hosts: "globex.example"`))
	if got := rig.config(t, tenant).Auth.Hosts; !slices.Equal(got, []string{"voice.acme.example"}) {
		t.Errorf("the config has the hosts %v", got)
	}
	rig.annotate(t, v1alpha1.AnnotationAllowedHosts, "*.*")
	rig.until(t, tenant, lacks(v1alpha1.ReasonNameNotAllowed, "voice.acme.example", "globex.example"))
	rig.annotate(t, v1alpha1.AnnotationAllowedHosts, "")
	rig.until(t, tenant, isReady)
}

// answers are Accounts that accept credentials by their API key.
type answers map[string]bool

func (a answers) Proves(_ context.Context, _ *v1alpha1.Tenant, credentials *corev1.Secret) (string, bool) {
	return "api.in.exotel.com", a[string(credentials.Data["apiKey"])]
}

// TestSharedAccount lets two Tenants share an account if Exotel accepts the credentials of both, and both list their
// numbers.
func TestSharedAccount(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		accepted      answers
		first, second []string // numbers
		want          bool
	}{
		"both prove it": {
			accepted: answers{"key-first": true, "key-second": true},
			first:    []string{"+918047491899"},
			second:   []string{"+918047491900"},
			want:     true,
		},
		"the second does not": {
			accepted: answers{"key-first": true},
			first:    []string{"+918047491899"},
			second:   []string{"+918047491900"},
		},
		"the first does not": {
			accepted: answers{"key-second": true},
			first:    []string{"+918047491899"},
			second:   []string{"+918047491900"},
		},
		"the first lists no numbers": {
			accepted: answers{"key-first": true, "key-second": true},
			second:   []string{"+918047491900"},
		},
		"the second lists no numbers": {
			accepted: answers{"key-first": true, "key-second": true},
			first:    []string{"+918047491899"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			rig := newSubject(t)
			rig.prover = tc.accepted
			rig.start(t)
			credentials := func(name string) {
				all := rig.goodSecrets()
				all["exotel"]["apiKey"] = "key-" + name
				rig.putSecrets(t, name, all)
			}
			credentials("first")
			first := rig.newTenant("first")
			withExotel("acme1", tc.first...)(first)
			rig.Create(t, first)
			rig.until(t, first, isReady)
			credentials("second")
			second := rig.newTenant("second")
			withExotel("acme1", tc.second...)(second)
			rig.Create(t, second)
			if !tc.want {
				rig.until(t, second, lacks(v1alpha1.ReasonNameTaken, "spec.exotel.accountSID"))
				rig.wantNames(t, second, append([]string{""}, tc.second...)...)
			} else {
				rig.until(t, second, isReady)
				rig.wantNames(t, second, "acme1", "+918047491900")
			}
			rig.until(t, first, isReady)
			if config := rig.config(t, second); config.SharesAccount != tc.want {
				t.Errorf("sharesAccount %v, want %v", config.SharesAccount, tc.want)
			}
			snapshot := tenantconfig.NewSnapshot(rig.config(t, first), rig.config(t, second))
			if got := len(snapshot.ByAccount("acme1")); got > 1 != tc.want || got == 0 {
				t.Errorf("a pod finds %d Tenants of the account", got)
			}
		})
	}
}

// TestUpgradeKeepsNames starts an operator that has never claimed a name on Tenants whose configs are published.
func TestUpgradeKeepsNames(t *testing.T) {
	t.Parallel()
	rig := newSubject(t)
	stop := rig.start(t)
	first := rig.ready(t, "first", withExotel("acme1", "+918047491899"), withHosts("voice.acme.example"))
	second := rig.ready(t, "second", withExotel("acme2", "+918047491900"))
	stop()
	// As an earlier version left them: two Tenants of one account, and no claims.
	for _, tenant := range []*v1alpha1.Tenant{first, second} {
		rig.change(t, tenant, func(t *v1alpha1.Tenant) { t.Spec.Exotel.AccountSID = "acme1" })
		config := rig.config(t, tenant)
		config.AccountSID = "acme1"
		config.Created = time.Time{}
		data, err := tenantconfig.EncodeTenant(*config)
		if err != nil {
			t.Fatal(err)
		}
		secret := rig.secret(t, tenantconfig.PrefixTenant, tenant)
		secret.Data[tenantconfig.Key] = data
		if err := rig.Client.Update(t.Context(), secret); err != nil {
			t.Fatal(err)
		}
		if _, err := rig.DB.ReleaseNames(t.Context(), tenant.ID(), string(tenant.UID), nil); err != nil {
			t.Fatal(err)
		}
	}
	rig.start(t)
	for _, tenant := range []*v1alpha1.Tenant{first, second} {
		rig.until(t, tenant, isReady)
	}
	rig.wantNames(t, first, "acme1", "+918047491899", "voice.acme.example")
	rig.wantNames(t, second, "acme1", "+918047491900")
	rig.publish(
		t, "third", lacks(v1alpha1.ReasonNameTaken, "spec.exotel.accountSID"), withExotel("acme1", "+918047491901"),
	)
}

// TestNamesOfADeletedTenant are released by the sweeper when the finalizer was removed by hand.
func TestNamesOfADeletedTenant(t *testing.T) {
	rig := newSubject(t)
	stop := rig.start(t)
	tenant := rig.ready(t, "acme", withHosts("voice.acme.example"))
	other := rig.ready(t, "other")
	stop()
	rig.change(t, tenant, func(t *v1alpha1.Tenant) { t.Finalizers = nil })
	rig.Delete(t, tenant)
	rig.UntilDeleted(t, tenant)
	sweeper := &Sweeper{Client: rig.Client, APIReader: rig.Client, Store: rig.DB, WorkNamespace: rig.Work}
	if err := sweeper.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	holders, err := rig.DB.TenantsWithNames(t.Context())
	want := []store.NameHolder{{Tenant: other.ID(), UID: string(other.UID)}}
	if diff := cmp.Diff(want, holders); err != nil || diff != "" {
		t.Errorf("holders of names: %v (-want +got):\n%s", err, diff)
	}
}

// TestForeignObjectIsLeftAlone deletes a Tenant whose Secrets would have the names of another Tenant's.
func TestForeignObjectIsLeftAlone(t *testing.T) {
	rig := newSubject(t)
	victim := rig.newTenant("victim")
	evil := rig.newTenant("evil")
	rig.Create(t, evil)
	// A Tenant with the same digest cannot be found in a test: the claim of the victim is made in its stead.
	object := namesOf(evil)[0].Name
	if _, err := rig.DB.ClaimNames(t.Context(), victim.ID(), "u", []store.Name{object}); err != nil {
		t.Fatal(err)
	}
	stop := rig.start(t)
	rig.putSecrets(t, "evil", rig.goodSecrets())
	rig.until(t, evil, stalledFor(v1alpha1.ReasonNameTaken, "metadata.name"))
	if rig.secret(t, tenantconfig.PrefixTenant, evil) != nil {
		t.Fatal("the Tenant wrote the Secret")
	}
	stop()
	foreign := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{
		Namespace: rig.Uploads,
		Name:      tenantconfig.SecretName(tenantconfig.PrefixUpload, evil.ID()),
	}}
	rig.Create(t, foreign)
	rig.start(t)
	rig.Delete(t, evil)
	rig.UntilDeleted(t, evil)
	if rig.secret(t, tenantconfig.PrefixUpload, evil) == nil {
		t.Error("the other Tenant's Secret was deleted")
	}
}

// TestNamesProperty creates, changes and deletes Tenants in random order, with the decisions of the reconciler and
// the real database. After each step every name has one owner, and no Tenant lost a name that its spec still has.
func TestNamesProperty(t *testing.T) {
	rig := newSubject(t)
	for seed := range uint64(6) {
		random := rand.New(rand.NewPCG(seed, 7)) //nolint:gosec // a test that can be repeated
		alive := map[string]*v1alpha1.Tenant{}
		reconciler := &Reconciler{
			Client:        rig.listing(alive),
			APIReader:     rig.Client,
			Store:         rig.DB,
			WorkNamespace: rig.Work,
		}
		holder := map[store.Name]string{}
		for step := range 60 {
			name := fmt.Sprintf("s%d-t%d", seed, random.IntN(5))
			tenant := alive[name]
			switch {
			case tenant == nil:
				tenant = rig.newTenant(name)
				tenant.UID = types.UID(fmt.Sprintf("%d-%d", seed, step))
				tenant.CreationTimestamp = metav1.Unix(int64(random.IntN(5)), 0) // older Tenants may come later
				alive[name] = tenant
			case random.IntN(4) == 0:
				if err := reconciler.dropNames(t.Context(), tenant, nil); err != nil {
					t.Fatal(err)
				}
				delete(alive, name)
				maps.DeleteFunc(holder, func(_ store.Name, was string) bool { return was == name })
				continue
			}
			withHosts(randomHosts(random, seed)...)(tenant)
			s := &scope{Scope: reconcile.Begin(tenant), tenant: tenant}
			if err := reconciler.claimNames(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			if err := reconciler.releaseNames(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			for n, was := range holder {
				now, err := rig.DB.NameHolders(t.Context(), n)
				if err != nil || len(now) > 1 {
					t.Fatalf("seed %d, step %d: %s has the holders %v, %v", seed, step, n.Name, now, err)
				}
				wants := func(has specName) bool { return has.Name == n }
				if alive[was] != nil && slices.ContainsFunc(namesOf(alive[was]), wants) &&
					(len(now) == 0 || now[0].Tenant != alive[was].ID()) {
					t.Fatalf("seed %d, step %d: %s lost %s to %v", seed, step, was, n.Name, now)
				}
			}
			maps.DeleteFunc(holder, func(_ store.Name, was string) bool { return was == name })
			for _, n := range namesOf(tenant) {
				if s.names.held[n.Name] {
					holder[n.Name] = name
				}
			}
		}
	}
}

// listing returns a client whose lists of Tenants are those of the map.
func (r *subject) listing(tenants map[string]*v1alpha1.Tenant) client.Client {
	return interceptor.NewClient(r.Client, interceptor.Funcs{
		List: func(_ context.Context, _ client.WithWatch, list client.ObjectList, _ ...client.ListOption) error {
			out := list.(*v1alpha1.TenantList)
			for _, t := range tenants {
				out.Items = append(out.Items, *t.DeepCopy())
			}
			return nil
		},
	})
}

// randomHosts returns up to three of five host names.
func randomHosts(random *rand.Rand, seed uint64) []string {
	var hosts []string
	for range random.IntN(4) {
		host := fmt.Sprintf("h%d.s%d.example", random.IntN(5), seed)
		if !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	return hosts
}
