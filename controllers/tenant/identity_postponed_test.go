package tenant

import (
	"testing"
	"time"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/controllers/internal/reconcile"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/tenanttest"
)

// TestRenewalIsPostponed lets a renewal be due while the namespace has as many calls in progress as it may: the Tenant
// comes again in its turn.
func TestRenewalIsPostponed(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Second)
	for name, tc := range map[string]struct {
		expires   time.Duration
		noKey     bool
		abandoned bool // the reconcile goes no further
	}{
		"valid credentials":   {expires: time.Hour},
		"expired credentials": {expires: -time.Minute, abandoned: true},
		"no credentials":      {noKey: true, abandoned: true},
	} {
		t.Run(name, func(t *testing.T) {
			identitySubject := newIdentitySubject(t)
			identitySubject.account(t, allowedAccount("support"))
			reconciler := &Reconciler{
				Client:          identitySubject.Client,
				APIReader:       identitySubject.Client,
				UploadNamespace: identitySubject.Uploads,
				Identities:      identitySubject.identities,
				clock:           func() time.Time { return now },
			}
			tenant := tenanttest.New(identitySubject.Namespace, "support", identitySubject.withIdentity)
			want, err := reconciler.identityOf(t.Context(), scopeOf(tenant))
			if err != nil {
				t.Fatal(err)
			}
			if !tc.noKey {
				identitySubject.identities.save(tenant.ID(), &heldKey{Temporary: tenantconfig.Temporary{
					Identity: want.digest,
					Renew:    now,
					Expires:  now.Add(tc.expires),
				}})
			}
			for range storeCallsPerNamespace {
				leave, err := reconciler.stores.enter(t.Context(), identitySubject.Namespace)
				if err != nil {
					t.Fatal(err)
				}
				defer leave()
			}
			for range 10 { // other Tenants of the namespace
				reconciler.stores.postpone(identitySubject.Namespace, time.Now())
			}
			scope := scopeOf(tenant)
			err = reconciler.readIdentity(t.Context(), scope)
			if abandoned(err) != tc.abandoned || (err != nil) != tc.abandoned {
				t.Fatalf("error %v, want one that abandons the reconcile: %t", err, tc.abandoned)
			}
			if (scope.temporary == nil) != tc.abandoned {
				t.Errorf("credentials %v, want none: %t", scope.temporary, tc.abandoned)
			}
			result, err := scope.Result(err)
			if err != nil || result.RequeueAfter < 4*time.Second {
				t.Errorf("it comes again after %s (%v), want its turn, after 5 s", result.RequeueAfter, err)
			}
		})
	}
}

func scopeOf(t *v1alpha1.Tenant) *scope { return &scope{Scope: reconcile.Begin(t), tenant: t} }
