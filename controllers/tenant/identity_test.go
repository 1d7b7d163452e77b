package tenant

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/s3test"
)

const identityRole = "arn:aws:iam::123456789012:role/recordings"

// identitySubject is a subject with an STS that trusts the API server's tokens, and a store that takes what it issues.
type identitySubject struct {
	*subject
	store *s3test.Strict
	sts   *s3test.STS
	ahead atomic.Int64 // of the operator's clock
}

func newIdentitySubject(t *testing.T) *identitySubject {
	t.Helper()
	r := &identitySubject{subject: newSubject(t), store: s3test.NewStrict(t, s3test.Rules{}, nil)}
	issuer, keys := r.clusterIssuer(t)
	r.sts = s3test.NewSTS(t, r.store, s3test.STSRules{
		Issuer:    issuer,
		Keys:      keys,
		Audiences: []string{defaultAudience},
		RoleARN:   identityRole,
		Subject:   "system:serviceaccount:" + r.Namespace + ":recordings",
	})
	r.identities = &Identities{Audiences: []string{defaultAudience}, Client: r.Client, Config: r.Config}
	r.clock = func() time.Time { return time.Now().Add(time.Duration(r.ahead.Load())) }
	return r
}

// clusterIssuer reads what the API server publishes of the tokens that it issues.
func (r *identitySubject) clusterIssuer(t *testing.T) (issuer string, keys jose.JSONWebKeySet) {
	t.Helper()
	var document struct {
		Issuer string `json:"issuer"`
	}
	for path, into := range map[string]any{"/.well-known/openid-configuration": &document, "/openid/v1/jwks": &keys} {
		data, err := r.raw(t, path)
		if err == nil {
			err = json.Unmarshal(data, into)
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
	}
	return document.Issuer, keys
}

// account makes the ServiceAccount that the Tenants use.
func (r *identitySubject) account(t *testing.T, annotations map[string]string) *corev1.ServiceAccount {
	t.Helper()
	serviceAccount := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{
		Namespace:   r.Namespace,
		Name:        "recordings",
		Annotations: annotations,
	}}
	r.Create(t, serviceAccount)
	return serviceAccount
}

func allowedAccount(tenant string) map[string]string {
	return map[string]string{v1alpha1.AnnotationServiceAccountTenant: tenant, annotationRole: identityRole}
}

// withIdentity has a Tenant use web identity.
func (r *identitySubject) withIdentity(t *v1alpha1.Tenant) {
	t.Spec.Recordings.CredentialsSecretRef = nil
	t.Spec.Recordings.Bucket = r.store.Bucket
	t.Spec.Recordings.Region = "us-east-1"
	t.Spec.Recordings.Endpoint = r.store.URL
	t.Spec.Recordings.WebIdentity = &v1alpha1.WebIdentitySpec{ServiceAccountName: "recordings", Endpoint: r.sts.URL}
}

// noneShown fails if a token or a credential is in what people read.
func (r *identitySubject) noneShown(t *testing.T) {
	t.Helper()
	for _, form := range r.sts.Requests() {
		r.Hide(form.Get("WebIdentityToken"))
	}
	for _, key := range r.store.Issued() {
		r.Hide(key.SecretKey, key.Token)
	}
}

// TestWebIdentity makes a Tenant ready with a token of the real API server, and renews its credentials.
func TestWebIdentity(t *testing.T) {
	identitySubject := newIdentitySubject(t)
	account := identitySubject.account(t, allowedAccount("support"))
	stop := identitySubject.start(t)
	tenant := identitySubject.ready(t, "support", identitySubject.withIdentity)
	t.Cleanup(func() { identitySubject.noneShown(t) })

	first := identitySubject.upload(t, tenant)
	issued := identitySubject.store.Issued()
	if len(issued) != 1 || first.AccessKeyID.Reveal() != issued[0].AccessKey ||
		first.SessionToken.Reveal() != issued[0].Token {
		t.Fatalf("the upload config does not have the credentials that were issued")
	}
	form := maps.Clone(identitySubject.sts.Requests()[0])
	form.Del("WebIdentityToken")
	want := url.Values{
		"Action":          {"AssumeRoleWithWebIdentity"},
		"Version":         {"2011-06-15"},
		"RoleArn":         {identityRole},
		"RoleSessionName": {sessionName(tenant)},
		"DurationSeconds": {"3600"},
	}
	if diff := cmp.Diff(want, form); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
	probes := identitySubject.buckets.count(tenant.ID())

	// Another operator takes over: it asks no STS while more than half of the lifetime remains.
	stop()
	identitySubject.identities = &Identities{
		Audiences: []string{defaultAudience},
		Client:    identitySubject.Client,
		Config:    identitySubject.Config,
	}
	identitySubject.start(t)
	identitySubject.change(t, tenant, func(t *v1alpha1.Tenant) { t.Spec.Recordings.MaxParallelism = 2 })
	identitySubject.until(t, tenant, both(isReady, observed))
	if got := len(identitySubject.sts.Requests()); got != 1 {
		t.Errorf("the STS was asked %d times, want once", got)
	}
	probes = identitySubject.buckets.count(tenant.ID()) - probes // a new operator checks the bucket once
	if probes != 1 {
		t.Errorf("the new operator checked the bucket %d times, want once", probes)
	}

	before := identitySubject.buckets.count(tenant.ID())
	identitySubject.ahead.Store(int64(35 * time.Minute))
	identitySubject.change(t, tenant, func(t *v1alpha1.Tenant) { t.Spec.Recordings.MaxParallelism = 3 })
	eventually.Within(soon).Succeeds(t, func(context.Context) error {
		now := identitySubject.upload(t, tenant)
		if now.AccessKeyID == first.AccessKeyID || !now.Temporary.Expires.After(first.Temporary.Expires) {
			return fmt.Errorf("the credentials were not renewed")
		}
		return nil
	})
	identitySubject.until(t, tenant, both(isReady, observed))
	if got := identitySubject.buckets.count(tenant.ID()) - before; got != 0 {
		t.Errorf("a renewal had the bucket checked %d times", got)
	}
	identitySubject.identitySurvives(t, tenant, account)
}

// identitySurvives lets renewals fail until the credentials expire, and then succeed again.
func (r *identitySubject) identitySurvives(t *testing.T, tenant *v1alpha1.Tenant, account *corev1.ServiceAccount) {
	t.Helper()
	r.sts.SetRules(func(rules *s3test.STSRules) {
		rules.Refuse = func(url.Values) *s3test.Refusal {
			return &s3test.Refusal{Status: 400, Code: "IDPCommunicationError", Message: "the provider is down"}
		}
	})
	held := r.upload(t, tenant)
	r.ahead.Add(int64(40 * time.Minute))
	r.change(t, tenant, func(t *v1alpha1.Tenant) { t.Spec.Recordings.MaxParallelism = 4 })
	r.until(t, tenant, both(isReady, has(v1alpha1.ConditionCredentialsValid, metav1.ConditionTrue,
		v1alpha1.ReasonRenewalFailing, "the provider is down", "valid until")))
	if got := r.upload(t, tenant); got.AccessKeyID != held.AccessKeyID {
		t.Error("a failure to renew replaced valid credentials")
	}
	r.ahead.Add(int64(30 * time.Minute))
	r.change(t, tenant, func(t *v1alpha1.Tenant) { t.Spec.Exotel.PhoneNumbers = []string{"+918047491898"} })
	r.until(t, tenant, both(reconcilingFor(v1alpha1.ReasonCredentialsExpired, "IDPCommunicationError"),
		both(has(v1alpha1.ConditionStorageReachable, metav1.ConditionFalse, v1alpha1.ReasonCredentialsExpired),
			has(v1alpha1.ConditionCredentialsValid, metav1.ConditionFalse, v1alpha1.ReasonCredentialsExpired))))
	if diff := cmp.Diff([]string{"+918047491898"}, r.config(t, tenant).PhoneNumbers); diff != "" {
		t.Errorf("expired credentials kept another change from the pods (-want +got):\n%s", diff)
	}
	r.sts.SetRules(func(rules *s3test.STSRules) { rules.Refuse = nil })
	r.ahead.Add(int64(2 * time.Minute))
	r.change(t, tenant, func(t *v1alpha1.Tenant) { t.Spec.Recordings.MaxParallelism = 5 })
	r.until(t, tenant, both(isReady, observed))

	r.identityWithdrawn(t, tenant, account)
}

// identityWithdrawn has the ServiceAccount not name the Tenant any more. Other changes reach the pods until the
// credentials expire and after that.
func (r *identitySubject) identityWithdrawn(t *testing.T, tenant *v1alpha1.Tenant, account *corev1.ServiceAccount) {
	t.Helper()
	last := r.upload(t, tenant)
	account.Annotations = nil
	if err := r.Client.Update(t.Context(), account); err != nil {
		t.Fatal(err)
	}
	command := []string{"annotate serviceaccount recordings", "voice.caly.dev/tenant=support"}
	for _, tc := range []struct {
		number string
		ahead  time.Duration
		want   func(*v1alpha1.Tenant) error
	}{
		{"+918047491897", 0, both(isReady, has(v1alpha1.ConditionCredentialsValid, metav1.ConditionTrue,
			v1alpha1.ReasonRenewalFailing, command...))},
		{"+918047491896", 2 * time.Hour, stalledFor(v1alpha1.ReasonCredentialsExpired, command...)},
	} {
		r.ahead.Add(int64(tc.ahead))
		r.change(t, tenant, func(t *v1alpha1.Tenant) { t.Spec.Exotel.PhoneNumbers = []string{tc.number} })
		r.until(t, tenant, both(observed, tc.want))
		if diff := cmp.Diff([]string{tc.number}, r.config(t, tenant).PhoneNumbers); diff != "" {
			t.Errorf("a withdrawn identity kept another change from the pods (-want +got):\n%s", diff)
		}
	}
	if got := r.upload(t, tenant); got.AccessKeyID != last.AccessKeyID {
		t.Error("credentials were issued for an identity that was withdrawn")
	}
	// What asks for another identity does not get these credentials.
	r.change(t, tenant, func(t *v1alpha1.Tenant) { t.Spec.Recordings.WebIdentity.ServiceAccountName = "another" })
	r.until(t, tenant, stalledFor(v1alpha1.ReasonServiceAccountNotFound, "create it"))
}

// observed wants the status to be of the newest spec.
func observed(t *v1alpha1.Tenant) error {
	if t.Status.ObservedGeneration != t.Generation {
		return fmt.Errorf("generation %d is observed, want %d", t.Status.ObservedGeneration, t.Generation)
	}
	return nil
}

// TestWebIdentityRefused has what a Tenant must not do, and what it must be told.
func TestWebIdentityRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		off         bool
		account     map[string]string // annotations
		noAccount   bool
		apiAudience bool
		change      func(*v1alpha1.Tenant)
		rules       func(*s3test.STSRules)
		want        string
		parts       []string
		asked       int // requests at the STS; -1: any number
	}{
		"the platform has not enabled it": {
			off:   true,
			want:  v1alpha1.ReasonWebIdentityDisabled,
			parts: []string{"storage.webIdentity.enabled"},
		},
		"no ServiceAccount": {
			noAccount: true,
			want:      v1alpha1.ReasonServiceAccountNotFound,
			parts:     []string{"create it"},
		},
		"another workload's ServiceAccount": {
			account: map[string]string{annotationRole: identityRole},
			want:    v1alpha1.ReasonServiceAccountNotAllowed,
			parts:   []string{"annotate serviceaccount recordings"},
		},
		"another Tenant's ServiceAccount": {
			account: allowedAccount("sales"),
			want:    v1alpha1.ReasonServiceAccountNotAllowed,
			parts:   []string{"is for another Tenant", `"sales"`},
		},
		"an annotation that is not a role": {
			account: map[string]string{
				v1alpha1.AnnotationServiceAccountTenant: "support",
				annotationRole:                          "arn:aws:iam::123456789012:role/a\nb",
			},
			want:  v1alpha1.ReasonInvalidSpec,
			parts: []string{annotationRole, `ServiceAccount "recordings"`},
		},
		"an audience that is not allowed": {
			change: func(t *v1alpha1.Tenant) {
				t.Spec.Recordings.WebIdentity.Audience = "https://kubernetes.default.svc"
			},
			want:  v1alpha1.ReasonAudienceNotAllowed,
			parts: []string{"kubernetes.default.svc", "storage.webIdentity.audiences"},
		},
		"an audience of the API server": {
			apiAudience: true,
			want:        v1alpha1.ReasonAudienceNotAllowed,
			parts:       []string{"would give access to the cluster"},
		},
		"a role that does not trust it": {
			rules: func(r *s3test.STSRules) { r.Subject = "another" },
			asked: -1,
			want:  v1alpha1.ReasonWebIdentityRefused,
			parts: []string{"AccessDenied", "Not authorized to perform", ":recordings", identityRole},
		},
		"a session that is too long": {
			asked: -1,
			want:  v1alpha1.ReasonWebIdentityRefused,
			parts: []string{"MaxSessionDuration"},
			change: func(t *v1alpha1.Tenant) {
				t.Spec.Recordings.WebIdentity.SessionDuration = &metav1.Duration{Duration: 2 * time.Hour}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			identitySubject := newIdentitySubject(t)
			if tc.off {
				identitySubject.identities = nil
			}
			issuer, _ := identitySubject.clusterIssuer(t) // the API server's audience, unless it is told another one
			if tc.apiAudience {
				identitySubject.identities.Audiences = []string{issuer}
			}
			if !tc.noAccount {
				identitySubject.account(t, orAllowed(tc.account))
			}
			if tc.rules != nil {
				identitySubject.sts.SetRules(tc.rules)
			}
			identitySubject.start(t)
			tenant := identitySubject.publish(
				t, "support", stalledFor(tc.want, tc.parts...), identitySubject.withIdentity,
				func(t *v1alpha1.Tenant) {
					if tc.change != nil {
						tc.change(t)
					}
					if tc.apiAudience {
						t.Spec.Recordings.WebIdentity.Audience = issuer
					}
				},
			)
			t.Cleanup(func() { identitySubject.noneShown(t) })
			if got := len(identitySubject.sts.Requests()); tc.asked >= 0 && got != tc.asked {
				t.Errorf("the STS was asked %d times, want %d", got, tc.asked)
			}
			if secret := identitySubject.secret(t, tenantconfig.PrefixUpload, tenant); secret != nil {
				t.Error("an upload config was written without credentials")
			}
		})
	}
}

func orAllowed(annotations map[string]string) map[string]string {
	if annotations == nil {
		return allowedAccount("support")
	}
	return annotations
}

// TestSessionDefaults has the default endpoints and the names of sessions.
func TestSessionDefaults(t *testing.T) {
	for name, tc := range map[string]struct{ endpoint, region, want string }{
		"Amazon": {"https://s3.eu-west-1.amazonaws.com", "eu-west-1", "https://sts.eu-west-1.amazonaws.com"},
		"Amazon, China": {"https://s3.cn-north-1.amazonaws.com.cn", "cn-north-1",
			"https://sts.cn-north-1.amazonaws.com.cn"},
		"MinIO":       {"https://minio.example:9000/", "us-east-1", "https://minio.example:9000"},
		"a lookalike": {"https://s3.amazonaws.com.evil.example", "x", "https://s3.amazonaws.com.evil.example"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := stsOf(&v1alpha1.RecordingsSpec{Endpoint: tc.endpoint, Region: tc.region}); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
	long := &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Namespace: strings.Repeat("n", 63), Name: "x"}}
	if got := len(sessionName(long)); got != maxSessionName {
		t.Errorf("the session's name has %d bytes, want %d", got, maxSessionName)
	}
}

// raw returns what the API server answers.
func (r *identitySubject) raw(t *testing.T, path string) ([]byte, error) {
	t.Helper()
	httpClient, err := rest.HTTPClientFor(r.Config)
	if err != nil {
		return nil, err
	}
	base, _, err := rest.DefaultServerUrlFor(r.Config)
	if err != nil {
		return nil, err
	}
	resp, err := httpClient.Get(base.JoinPath(path).String())
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	return io.ReadAll(resp.Body)
}
