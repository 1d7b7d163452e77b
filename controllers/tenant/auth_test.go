package tenant

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// wantAuth is what accounts compile to if the spec sets no field.
func wantAuth() *tenantconfig.Auth {
	return &tenantconfig.Auth{AccessTokenLifetime: 15 * time.Minute, SessionLifetime: 720 * time.Hour}
}

// wantStorage is where the recordings of newScope's Tenant lie.
func wantStorage() *tenantconfig.Storage {
	return &tenantconfig.Storage{
		Bucket:          "b",
		Endpoint:        "https://s3.test",
		Region:          "r",
		AccessKeyID:     "a",
		SecretAccessKey: "s",
	}
}

// fullAuth says all that can be said, each limit another one.
func fullAuth() *v1alpha1.AuthSpec {
	n := int32(0)
	next := func() *v1alpha1.RateLimitSpec {
		n++
		return &v1alpha1.RateLimitSpec{Requests: n, Window: &metav1.Duration{Duration: time.Minute}}
	}
	return &v1alpha1.AuthSpec{
		Registration:        v1alpha1.RegistrationOpen,
		AccessTokenLifetime: &metav1.Duration{Duration: time.Minute},
		SessionLifetime:     &metav1.Duration{Duration: time.Hour},
		AllowedEmailDomains: []string{"acme.example"},
		Hosts:               []string{"voice.acme.example"},
		AllowedOrigins:      []string{"https://desk.acme.example"},
		Limits: &v1alpha1.AuthLimitsSpec{
			Login:         next(),
			LoginFailures: next(),
			Register:      next(),
			Verify:        next(),
			Resend:        next(),
			Forgot:        next(),
			Reset:         next(),
			Refresh:       next(),
			API:           next(),
		},
	}
}

func wantFullAuth() *tenantconfig.Auth {
	auth := &tenantconfig.Auth{
		OpenRegistration:    true,
		AccessTokenLifetime: time.Minute,
		SessionLifetime:     time.Hour,
		AllowedEmailDomains: []string{"acme.example"},
		Hosts:               []string{"voice.acme.example"},
		AllowedOrigins:      []string{"https://desk.acme.example"},
		Limits:              map[string]tenantconfig.Limit{},
	}
	for i, name := range []string{"login", "loginFailures", "register", "verify", "resend", "forgot", "reset", "refresh", "api"} {
		auth.Limits[name] = tenantconfig.Limit{Requests: i + 1, Window: time.Minute}
	}
	return auth
}

// TestEveryLimitIsCompiled verifies that the spec and the config have the same limits.
func TestEveryLimitIsCompiled(t *testing.T) {
	spec := fullAuth().Limits
	for i := range reflect.TypeFor[v1alpha1.AuthLimitsSpec]().NumField() {
		if reflect.ValueOf(spec).Elem().Field(i).IsNil() {
			t.Errorf("%s is not tested", reflect.TypeFor[v1alpha1.AuthLimitsSpec]().Field(i).Name)
		}
	}
	known := tenantconfig.LimitNames()
	slices.Sort(known)
	if diff := cmp.Diff(known, slices.Sorted(maps.Keys(limits(spec)))); diff != "" {
		t.Errorf("limits of the config and of the spec (-config +spec):\n%s", diff)
	}
}

// TestAccounts takes a Tenant from no accounts to accounts and back, rotates its bucket's credentials, and suspends it.
func TestAccounts(t *testing.T) {
	t.Parallel()
	rig := newSubject(t)
	rig.start(t)
	tenant := rig.ready(t, "support")
	if c := rig.config(t, tenant); c.Auth != nil || c.Storage != nil {
		t.Fatalf("a Tenant without accounts hands out %+v and %+v", c.Auth, c.Storage)
	}
	without := tenant.Status.ConfigDigest
	rig.change(
		t, tenant, func(t *v1alpha1.Tenant) { t.Spec.Auth = &v1alpha1.AuthSpec{Hosts: []string{"voice.acme.example"}} },
	)
	rig.until(t, tenant, isReady)
	want := wantAuth()
	want.Hosts = []string{"voice.acme.example"}
	storage := &tenantconfig.Storage{
		Bucket:          rig.bucket,
		Endpoint:        rig.s3.Endpoint,
		Region:          rig.s3.Region,
		AccessKeyID:     secret.Sensitive(rig.s3.AccessKey),
		SecretAccessKey: secret.Sensitive(rig.s3.SecretKey),
		Options: objectstore.Options{
			Addressing: objectstore.AddressingAuto,
			Checksum:   objectstore.ChecksumSHA256,
		},
	}
	rig.accounts(t, tenant, want, storage)

	data := maps.Clone(rig.goodSecrets()["bucket"])
	data["secretAccessKey"] = "rotated-secret-access-key"
	digest := tenant.Status.ConfigDigest
	rig.PutSecret(t, "support-bucket", data) // the bucket refuses them, and what was compiled is live all the same
	storage.SecretAccessKey = "rotated-secret-access-key"
	rig.until(t, tenant, func(*v1alpha1.Tenant) error {
		if rig.config(t, tenant).Storage.SecretAccessKey != storage.SecretAccessKey {
			return fmt.Errorf("the rotated key is not live")
		}
		return nil
	})
	rig.PutSecret(t, "support-bucket", rig.goodSecrets()["bucket"])
	storage.SecretAccessKey = secret.Sensitive(rig.s3.SecretKey)
	rig.until(t, tenant, isReady)
	if tenant.Status.ConfigDigest != digest {
		t.Errorf("the same config has the digests %s and %s", digest, tenant.Status.ConfigDigest)
	}

	rig.change(t, tenant, func(t *v1alpha1.Tenant) { t.Spec.Suspend = ptr.To(true) })
	rig.until(
		t, tenant, both(isReady, has(v1alpha1.ConditionSuspended, metav1.ConditionTrue, v1alpha1.ReasonSuspended)),
	)
	rig.accounts(t, tenant, want, storage) // the client learns that the Tenant is suspended, not that it is unknown
	rig.change(t, tenant, func(t *v1alpha1.Tenant) {
		t.Spec.Auth = nil
		t.Spec.Suspend = nil
	})
	rig.until(t, tenant, isReady)
	rig.accounts(t, tenant, nil, nil)
	if tenant.Status.ConfigDigest == digest || tenant.Status.ConfigDigest == without { // the generation is in it
		t.Errorf("the digest is %s, as it was before", tenant.Status.ConfigDigest)
	}
}

// accounts wants the tenant config to have these.
func (r *subject) accounts(
	t *testing.T,
	tenant *v1alpha1.Tenant,
	auth *tenantconfig.Auth,
	storage *tenantconfig.Storage,
) {
	t.Helper()
	config := r.config(t, tenant)
	if diff := cmp.Diff(auth, config.Auth); diff != "" {
		t.Errorf("auth (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(storage, config.Storage, plain); diff != "" {
		t.Errorf("storage (-want +got):\n%s", diff)
	}
}
