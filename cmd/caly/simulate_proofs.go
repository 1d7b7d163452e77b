package main

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/simulator/exotelsim"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// proofs for all of a Tenant's verifiers, so that they do whether any or all of them must accept. Those that change the URL come
// before those that sign it.
func proofs(ctx context.Context, c client.Reader, t *v1alpha1.Tenant) ([]exotelsim.Proof, error) {
	list := []exotelsim.Proof{}
	spec := t.Spec.Webhooks
	if err := checkHeaders(spec); err != nil {
		return nil, fmt.Errorf("tenant %s takes no webhook that can be sent: %w", t.ID(), err)
	}
	if spec.Token != nil {
		_, token, err := firstSecret(ctx, c, t, spec.Token.SecretRef, "token")
		if err != nil {
			return nil, err
		}
		list = append(list, exotelsim.Token(spec.Token.Query, token))
	}
	if spec.BasicAuth != nil {
		user, password, err := firstSecret(ctx, c, t, spec.BasicAuth.SecretRef, "password")
		if err != nil {
			return nil, err
		}
		list = append(list, exotelsim.Basic(user, password))
	}
	// The signature may bring the body's digest into the URL; Standard Webhooks signs that only where there is no body.
	if spec.StandardWebhooks != nil {
		_, secret, err := firstSecret(ctx, c, t, spec.StandardWebhooks.SecretRef, "Standard Webhooks secret")
		if err != nil {
			return nil, err
		}
		key, err := tenantconfig.DecodeStandardSecret(secret)
		if err != nil {
			return nil, fmt.Errorf("the Secret %s/%s %w", t.Namespace, spec.StandardWebhooks.SecretRef.Name, err)
		}
		list = append(list, exotelsim.StandardWebhooks(key.Reveal()))
	}
	if spec.Signature != nil {
		_, secret, err := firstSecret(ctx, c, t, spec.Signature.SecretRef, "signing secret")
		if err != nil {
			return nil, err
		}
		list = append(list, signature(spec.Signature, secret).Proof())
	}
	return list, nil
}

// signature returns the signature that the Tenant's spec asks for.
func signature(spec *v1alpha1.SignatureSpec, secret string) exotelsim.Signature {
	s := exotelsim.Signature{
		Secret:  secret,
		SHA256:  spec.Scheme == v1alpha1.SignatureSchemeHMACSHA256,
		Base64:  spec.Encoding == v1alpha1.SignatureEncodingBase64,
		Header:  spec.Header,
		Prefix:  spec.Prefix,
		Content: exotelsim.Content(spec.SignedContent),
	}
	if spec.Timestamp != nil {
		s.TimestampHeader = spec.Timestamp.Header
	}
	return s
}

// firstSecret returns the first key of a verifier's Secret and its value. Every key of such a Secret is active.
func firstSecret(
	ctx context.Context,
	c client.Reader,
	t *v1alpha1.Tenant,
	ref v1alpha1.SecretReference,
	what string,
) (key, value string, err error) {
	var s corev1.Secret
	if err := c.Get(ctx, client.ObjectKey{Namespace: t.Namespace, Name: ref.Name}, &s); err != nil {
		return "", "", err
	}
	if len(s.Data) == 0 {
		return "", "", fmt.Errorf("the Secret %s/%s holds no %s", t.Namespace, ref.Name, what)
	}
	key = slices.Sorted(maps.Keys(s.Data))[0]
	return key, string(s.Data[key]), nil
}

// checkHeaders tells of two verifiers that look at one header, and of a header that HTTP keeps for itself.
func checkHeaders(spec v1alpha1.WebhooksSpec) error {
	var names []string
	if signatureSpec := spec.Signature; signatureSpec != nil {
		names = append(names, http.CanonicalHeaderKey(signatureSpec.Header))
		if signatureSpec.Timestamp != nil {
			names = append(names, http.CanonicalHeaderKey(signatureSpec.Timestamp.Header))
		}
	}
	own := []string{"Host", "Content-Length", "Content-Type", "Transfer-Encoding", "Trailer", "Connection"}
	if spec.BasicAuth != nil {
		own = append(own, "Authorization")
	}
	if spec.StandardWebhooks != nil {
		own = append(own, "Webhook-Id", "Webhook-Timestamp", "Webhook-Signature")
	}
	for i, n := range names {
		if slices.Contains(own, n) || slices.Contains(names[:i], n) {
			return fmt.Errorf(
				"its signature is expected in the header %s, which carries something else: name another", n,
			)
		}
	}
	return nil
}
