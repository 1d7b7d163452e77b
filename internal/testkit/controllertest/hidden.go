package controllertest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	eventsv1 "k8s.io/api/events/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/conditions"
)

// shortestHidden is the length below which a value is found by chance.
const shortestHidden = 4

// Hide names secrets that CheckTenants looks for.
func (r *Rig) Hide(values ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, value := range values {
		if len(value) >= shortestHidden {
			r.hidden = append(r.hidden, value)
		}
	}
}

// CheckTenants checks the conditions of the Tenants, and that no hidden value is in a Tenant, an event or the log.
func (r *Rig) CheckTenants(t testing.TB) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	var tenants v1alpha1.TenantList
	var events eventsv1.EventList
	if err := errors.Join(
		r.Client.List(ctx, &tenants, client.InNamespace(r.Namespace)),
		r.Client.List(ctx, &events, client.InNamespace(r.Namespace)),
	); err != nil {
		t.Fatal(err)
	}
	for i := range tenants.Items {
		if err := conditions.Check(&tenants.Items[i]); err != nil {
			t.Errorf("the contract of conditions: %v", err)
		}
	}
	seen, err := json.Marshal([]any{tenants, events})
	if err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	hidden := slices.Clone(r.hidden)
	r.mu.Unlock()
	for _, secret := range hidden {
		if bytes.Contains(seen, []byte(secret)) {
			t.Errorf("the secret %q is in a Tenant or an event:\n%s", secret, seen)
		}
		if strings.Contains(r.Logs.String(), secret) {
			t.Errorf("the secret %q is in the log:\n%s", secret, r.Logs)
		}
	}
}
