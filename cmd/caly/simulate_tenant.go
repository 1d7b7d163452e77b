package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
)

// newScheme knows Kubernetes' own kinds and Caly's.
func newScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return nil, err
	}
	return scheme, v1alpha1.AddToScheme(scheme)
}

func splitTenant(id string) (namespace, name string, err error) {
	namespace, name, _ = strings.Cut(id, "/")
	if namespace == "" || name == "" || strings.Contains(name, "/") {
		return "", "", fmt.Errorf("--tenant %q is not namespace/name", id)
	}
	return namespace, name, nil
}

// lookUpTenant reads a Tenant's status webhook and one of its signing secrets.
func lookUpTenant(ctx context.Context, id string) (url, secret string, err error) {
	ns, name, err := splitTenant(id)
	if err != nil {
		return "", "", err
	}
	cfg, err := ctrl.GetConfig()
	if err != nil {
		return "", "", err
	}
	scheme, err := newScheme()
	if err != nil {
		return "", "", err
	}
	c, err := client.New(cfg, client.Options{Scheme: scheme})
	if err != nil {
		return "", "", err
	}
	var t v1alpha1.Tenant
	if err := c.Get(ctx, client.ObjectKey{Namespace: ns, Name: name}, &t); err != nil {
		return "", "", err
	}
	for _, u := range t.Status.WebhookURLs {
		if u.Event == "status" {
			url = u.URL
		}
	}
	if url == "" || t.Spec.Webhooks.Signature == nil {
		return "", "", fmt.Errorf("tenant %s has no webhook address yet: see kubectl describe tenant -n %s %s", id, ns, name)
	}
	var s corev1.Secret
	if err := c.Get(ctx, client.ObjectKey{Namespace: ns, Name: t.Spec.Webhooks.Signature.SecretRef.Name}, &s); err != nil {
		return "", "", err
	}
	var keys []string
	for k := range s.Data {
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return "", "", fmt.Errorf("the Secret %s/%s holds no signing secret", ns, s.Name)
	}
	slices.Sort(keys)
	return url, string(s.Data[keys[0]]), nil
}
