package main

import (
	"context"
	"fmt"
	"strings"
	"time"

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

// readTenant reads a Tenant of the current kubeconfig's cluster.
func readTenant(ctx context.Context, id string) (client.Client, *v1alpha1.Tenant, error) {
	ns, name, err := splitTenant(id)
	if err != nil {
		return nil, nil, err
	}
	cfg, err := ctrl.GetConfig()
	if err != nil {
		return nil, nil, err
	}
	scheme, err := newScheme()
	if err != nil {
		return nil, nil, err
	}
	c, err := client.New(cfg, client.Options{Scheme: scheme})
	if err != nil {
		return nil, nil, err
	}
	var t v1alpha1.Tenant
	return c, &t, c.Get(ctx, client.ObjectKey{Namespace: ns, Name: name}, &t)
}

// lookUpTenant reads where a Tenant's webhooks go, and what its verifiers ask for.
func lookUpTenant(ctx context.Context, id, event string) (target, error) {
	c, t, err := readTenant(ctx, id)
	if err != nil {
		return target{}, err
	}
	to := target{url: webhookURL(t, event)}
	if to.url == "" {
		return target{}, fmt.Errorf(
			"tenant %s has no webhook address yet: see kubectl describe tenant -n %s %s", id, t.Namespace, t.Name,
		)
	}
	if zone, err := time.LoadLocation(t.Spec.Exotel.TimeZone); err == nil && t.Spec.Exotel.TimeZone != "" {
		to.zone = zone
	}
	if ranges := t.Spec.Webhooks.AllowedCIDRs; len(ranges) > 0 {
		to.hint = "tenant " + id + " takes webhooks from " + strings.Join(
			ranges, ", ",
		) + ": send from there, or add this machine's address to allowedCIDRs"
	}
	to.proofs, err = proofs(ctx, c, t)
	return to, err
}

// webhookURL returns the address for an event. Leg events have an address of their own.
func webhookURL(t *v1alpha1.Tenant, event string) string {
	listed := event
	switch event {
	case eventStream:
		listed = eventPassthru
	case eventLeg:
		listed = eventStatus
	}
	for _, u := range t.Status.WebhookURLs {
		if u.Event != listed {
			continue
		}
		if event == eventLeg {
			return strings.TrimSuffix(u.URL, eventStatus) + eventLeg
		}
		return u.URL
	}
	return ""
}
