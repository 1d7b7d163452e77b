package tenant

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/controllers/internal/reconcile"
	"github.com/caly-dev/caly/internal/bounded"
	"github.com/caly-dev/caly/internal/objectstore"
)

// Defaults of recordings.webIdentity, for objects of an API server without them.
const (
	defaultAudience = "sts.amazonaws.com"
	defaultSession  = time.Hour
)

// annotationRole is where Amazon's own clients look for the role of a ServiceAccount.
const annotationRole = "eks.amazonaws.com/role-arn"

// maxSessionName bounds RoleSessionName, in bytes.
const maxSessionName = 64

// identity is what a Tenant asks an STS for. It has no token.
type identity struct {
	account *corev1.ServiceAccount
	request objectstore.WebIdentity
	// digest is equal for requests that are answered with credentials for the same identity.
	digest string
	// spec is tenantconfig.Temporary's.
	spec string
}

// identityOf returns what the Tenant may ask for. A *reconcile.Stop says what it may not.
func (r *Reconciler) identityOf(ctx context.Context, s *scope) (*identity, error) {
	spec := s.tenant.Spec.Recordings.WebIdentity
	audience := orDefault(spec.Audience, defaultAudience)
	if r.Identities == nil {
		return nil, s.noIdentity(v1alpha1.ReasonWebIdentityDisabled,
			"spec.recordings.webIdentity: the platform has not "+
				"enabled web identity; use credentialsSecretRef, or have the platform set storage.webIdentity.enabled "+
				"(--web-identity-audiences)")
	}
	if !slices.Contains(r.Identities.Audiences, audience) {
		return nil, s.noIdentity(v1alpha1.ReasonAudienceNotAllowed,
			"spec.recordings.webIdentity.audience: the platform "+
				"does not allow %q; use one of %s, or have the platform add it to storage.webIdentity.audiences "+
				"(--web-identity-audiences)", audience, strings.Join(r.Identities.Audiences, ", "))
	}
	account, err := r.accountOf(ctx, s)
	if err != nil {
		return nil, err
	}
	role, err := s.roleOf(account)
	if err != nil {
		return nil, err
	}
	webIdentity := objectstore.WebIdentity{
		Endpoint:    orDefault(spec.Endpoint, stsOf(&s.tenant.Spec.Recordings)),
		CABundle:    s.bucketCA,
		RoleARN:     role,
		SessionName: sessionName(s.tenant),
		Subject:     "system:serviceaccount:" + account.Namespace + ":" + account.Name,
		Audience:    audience,
		Duration:    duration(spec.SessionDuration, defaultSession),
	}
	digest, err := identityDigest(string(s.tenant.UID), string(account.UID), webIdentity)
	if err != nil {
		return nil, err
	}
	asked, err := specDigest(s.tenant)
	return &identity{account: account, request: webIdentity, digest: digest, spec: asked}, err
}

// specDigest identifies what a Tenant's spec asks for.
func specDigest(t *v1alpha1.Tenant) (string, error) {
	return jsonDigest([]any{t.UID, t.Spec.Recordings.WebIdentity, stsOf(&t.Spec.Recordings)})
}

// identityDigest identifies all that the credentials depend on.
func identityDigest(tenant, account string, w objectstore.WebIdentity) (string, error) {
	return jsonDigest([]string{tenant, account, w.RoleARN, w.Endpoint, w.Audience, w.Duration.String()})
}

// jsonDigest returns the first 128 bits of the SHA-256 of v as JSON, in hex.
func jsonDigest(v any) (string, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:16]), nil
}

// accountOf reads the ServiceAccount. Only one that names the Tenant may be used: the author of a Tenant must not take
// the identity of another workload of the namespace.
func (r *Reconciler) accountOf(ctx context.Context, s *scope) (*corev1.ServiceAccount, error) {
	name := s.tenant.Spec.Recordings.WebIdentity.ServiceAccountName
	var account corev1.ServiceAccount
	err := r.APIReader.Get(ctx, client.ObjectKey{Namespace: s.tenant.Namespace, Name: name}, &account)
	switch {
	case apierrors.IsNotFound(err):
		return nil, s.noIdentity(v1alpha1.ReasonServiceAccountNotFound, "ServiceAccount %q, named by "+
			"spec.recordings.webIdentity, does not exist in namespace %q: create it", name, s.tenant.Namespace)
	case apierrors.IsForbidden(err):
		return nil, s.noIdentity(v1alpha1.ReasonWebIdentityDisabled, "the operator may not read ServiceAccounts in "+
			"namespace %q: have the platform set storage.webIdentity.enabled of the chart", s.tenant.Namespace)
	case err != nil:
		return nil, err
	case account.Annotations[v1alpha1.AnnotationServiceAccountTenant] != s.tenant.Name:
		return nil, s.notFor(&account)
	}
	return &account, nil
}

// roleForm and maxRole are the bounds of spec.recordings.webIdentity.roleARN, which hold for the annotation too.
var roleForm = regexp.MustCompile(`^arn:[A-Za-z0-9+=,.@_/:-]+$`)

const minRole, maxRole = 20, 2048

// roleOf returns the role to assume: that of the spec, else that of the ServiceAccount, else none.
func (s *scope) roleOf(account *corev1.ServiceAccount) (string, error) {
	if role := s.tenant.Spec.Recordings.WebIdentity.RoleARN; role != "" {
		return role, nil
	}
	role := account.Annotations[annotationRole]
	if role == "" || len(role) >= minRole && len(role) <= maxRole && roleForm.MatchString(role) {
		return role, nil
	}
	return "", s.noIdentity(v1alpha1.ReasonInvalidSpec, "the annotation %s of ServiceAccount %q is not the ARN of a "+
		"role, such as arn:aws:iam::123456789012:role/recordings: correct it, or set "+
		"spec.recordings.webIdentity.roleARN", annotationRole, account.Name)
}

// notFor stalls the Tenant for a ServiceAccount that names no Tenant, or another one.
func (s *scope) notFor(account *corev1.ServiceAccount) error {
	const key = v1alpha1.AnnotationServiceAccountTenant
	if other := account.Annotations[key]; other != "" {
		return s.noIdentity(v1alpha1.ReasonServiceAccountNotAllowed, "ServiceAccount %q, named by "+
			"spec.recordings.webIdentity, is for another Tenant: its annotation %s names %q. Use a ServiceAccount for "+
			"each Tenant", account.Name, key, bounded.Text(other, maxServerText))
	}
	return s.noIdentity(v1alpha1.ReasonServiceAccountNotAllowed, "ServiceAccount %q, named by "+
		"spec.recordings.webIdentity, does not allow this Tenant to use it: kubectl -n %s annotate serviceaccount "+
		"%s %s=%s", account.Name, s.tenant.Namespace, account.Name, key, s.tenant.Name)
}

// identityRetry is the wait after a failure. No watch reports a change of a ServiceAccount or at an STS.
const identityRetry = time.Minute

// noIdentity stalls the Tenant for what it may not ask for. It is looked at again, since ServiceAccounts are not
// watched.
func (s *scope) noIdentity(reason, format string, args ...any) error {
	return s.invalidIdentity(reconcile.Stalled(reason, format, args...).Again(identityRetry))
}

// stsOf returns the default endpoint of the STS for a store.
// Source: https://docs.aws.amazon.com/general/latest/gr/sts.html
func stsOf(spec *v1alpha1.RecordingsSpec) string {
	address, err := url.Parse(spec.Endpoint)
	if err != nil {
		return spec.Endpoint
	}
	for _, domain := range []string{".amazonaws.com", ".amazonaws.com.cn"} {
		if strings.HasSuffix(address.Hostname(), domain) {
			return "https://sts." + spec.Region + domain
		}
	}
	return strings.TrimRight(spec.Endpoint, "/")
}

// sessionName is what the provider's audit log shows of a Tenant. The names of Kubernetes have no character that
// RoleSessionName must not have.
func sessionName(t *v1alpha1.Tenant) string {
	name := "caly-" + t.Namespace + "." + t.Name
	return name[:min(len(name), maxSessionName)]
}
