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
func (c *Cluster) Hide(values ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, value := range values {
		if len(value) >= shortestHidden {
			c.hidden = append(c.hidden, value)
		}
	}
}

// CheckTenants checks the conditions of the Tenants, and that no hidden value is in a Tenant, an event or the log.
func (c *Cluster) CheckTenants(t testing.TB) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	var tenants v1alpha1.TenantList
	var events eventsv1.EventList
	if err := errors.Join(
		c.Client.List(ctx, &tenants, client.InNamespace(c.Namespace)),
		c.Client.List(ctx, &events, client.InNamespace(c.Namespace)),
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
	c.mu.Lock()
	hidden := slices.Clone(c.hidden)
	c.mu.Unlock()
	for _, secret := range hidden {
		if bytes.Contains(seen, []byte(secret)) {
			t.Errorf("the secret %q is in a Tenant or an event:\n%s", secret, seen)
		}
		if strings.Contains(c.Logs.String(), secret) {
			t.Errorf("the secret %q is in the log:\n%s", secret, c.Logs)
		}
	}
}
