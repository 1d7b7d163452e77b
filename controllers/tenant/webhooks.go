package tenant

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/controllers/internal/reconcile"
	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// defaultTolerance of a timestamp.
const defaultTolerance = 5 * time.Minute

// ranges parses the address ranges of a field of the spec; nil if there is none.
func ranges(field string, cidrs []string) (list []netip.Prefix, err error) {
	for _, c := range cidrs {
		prefix, err := netip.ParsePrefix(c)
		if err != nil {
			return nil, reconcile.Stalled(v1alpha1.ReasonInvalidSpec,
				"spec.%s: %q is not a range such as 203.0.113.0/24", field, c)
		}
		list = append(list, prefix.Masked())
	}
	return list, nil
}

// webhooks compiles the verifiers; nil if there is none.
func webhooks(s *scope) (*tenantconfig.Webhooks, error) {
	spec := s.tenant.Spec.Webhooks
	w := &tenantconfig.Webhooks{RequireAll: spec.Require == v1alpha1.RequireAll}
	var err error
	if w.AllowedCIDRs, err = ranges("webhooks.allowedCIDRs", spec.AllowedCIDRs); err != nil {
		return nil, err
	}
	if spec.Signature != nil {
		w.Signature = signature(spec.Signature, s.verifiers[fieldSignature])
	}
	if spec.StandardWebhooks != nil {
		w.Standard = &tenantconfig.StandardWebhooks{
			Tolerance: duration(spec.StandardWebhooks.Tolerance, defaultTolerance),
		}
		for _, secret := range values(s.verifiers[fieldStandard]) {
			key, err := tenantconfig.DecodeStandardSecret(secret.Reveal())
			if err != nil {
				return nil, err // readVerifiers has looked at it
			}
			w.Standard.Secrets = append(w.Standard.Secrets, key)
		}
	}
	if spec.Token != nil {
		w.Token = &tenantconfig.Token{
			Query:   orDefault(spec.Token.Query, tenantconfig.DefaultTokenQuery),
			Secrets: values(s.verifiers[fieldToken]),
		}
	}
	if spec.BasicAuth != nil {
		w.Basic = basicAuth(s.verifiers[fieldBasic])
	}
	if !w.Configured() {
		return nil, nil
	}
	return w, nil
}

func signature(spec *v1alpha1.SignatureSpec, secret *corev1.Secret) *tenantconfig.Signature {
	sig := &tenantconfig.Signature{
		Scheme:        string(orDefault(spec.Scheme, v1alpha1.SignatureSchemeHMACSHA1)),
		Encoding:      string(orDefault(spec.Encoding, v1alpha1.SignatureEncodingAny)),
		Header:        orDefault(spec.Header, tenantconfig.DefaultSignatureHeader),
		Prefix:        spec.Prefix,
		SignedContent: string(orDefault(spec.SignedContent, v1alpha1.SignedContentBody)),
		Secrets:       values(secret),
	}
	if spec.Timestamp != nil {
		sig.TimestampHeader = spec.Timestamp.Header
		sig.Tolerance = duration(spec.Timestamp.Tolerance, defaultTolerance)
	}
	return sig
}

// basicAuth returns the users of the Secret in the order of their names, so that the compiled config is stable.
func basicAuth(secret *corev1.Secret) *tenantconfig.BasicAuth {
	b := &tenantconfig.BasicAuth{}
	for _, name := range slices.Sorted(maps.Keys(secret.Data)) {
		b.Users = append(b.Users, tenantconfig.User{Name: name, Password: value(secret, name)})
	}
	return b
}

// values are a Secret's, in the order of its keys.
func values(s *corev1.Secret) []secret.Sensitive {
	list := make([]secret.Sensitive, 0, len(s.Data))
	for _, k := range slices.Sorted(maps.Keys(s.Data)) {
		list = append(list, value(s, k))
	}
	return list
}

func duration(d *metav1.Duration, fallback time.Duration) time.Duration {
	if d == nil {
		return fallback
	}
	return d.Duration
}

func orDefault[T ~string](value, fallback T) T {
	if value == "" {
		return fallback
	}
	return value
}
