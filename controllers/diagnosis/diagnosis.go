// Package diagnosis has the checks of `kubectl caly doctor` that need the operator's place: its role in PostgreSQL, its
// credentials of buckets, its network, its ServiceAccount. Each check does the work that it reports on.
package diagnosis

import (
	"context"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/doctor"
	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// Bounds of a run. The admin API gives a request 30 s.
const (
	// parallel is the number of checks at once.
	parallel = 8
	// within bounds all checks together.
	within = 25 * time.Second
	// maxTenants bounds the Tenants that one run looks at.
	maxTenants = 100
	// maxHosts bounds the hosts of Exotel's API that one run connects to.
	maxHosts = 8
)

// Buckets asks buckets; tenant.S3 does.
type Buckets interface {
	// Probe lists objects and, with write, writes, reads and deletes one.
	Probe(ctx context.Context, u *tenantconfig.Upload, write bool) (objectstore.Finding, error)
}

// Diagnosis runs the checks.
type Diagnosis struct {
	// Client reads Tenants and asks for the operator's rights.
	Client client.Client
	// Reader reads upload configs without a cache.
	Reader  client.Reader
	Store   *store.Operator
	Buckets Buckets
	// HTTP connects as the operator does to Exotel, through the egress proxy if there is one.
	HTTP http.RoundTripper
	// UploadNamespace is where upload configs are, and WorkNamespace where tenant configs are.
	UploadNamespace, WorkNamespace string
	// Namespaces are those that the operator watches; empty: all.
	Namespaces []string
	// Now is the clock of ages.
	Now func() time.Time

	kept kept
}

// Platform checks what all Tenants share, and every Tenant.
func (d *Diagnosis) Platform(ctx context.Context) []doctor.Finding {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	checks := []doctor.Check{
		{Area: "database", Name: "server", Within: 10 * time.Second, Run: d.database},
		{Area: "database", Name: "role", Within: 10 * time.Second, Run: d.role},
		{Area: "events", Name: "dead", Within: 10 * time.Second, Run: d.dead},
		{Area: "access", Name: "rights of the operator", Within: 10 * time.Second, Run: d.rights},
	}
	return doctor.Run(ctx, parallel, append(checks, d.tenantChecks(ctx, "")...))
}

// Namespace checks the Tenants of one namespace.
func (d *Diagnosis) Namespace(ctx context.Context, namespace string) []doctor.Finding {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	return doctor.Run(ctx, parallel, d.tenantChecks(ctx, namespace))
}

// one is a finding as a list.
func one(severity doctor.Severity, message, fix string) []doctor.Finding {
	return []doctor.Finding{{Severity: severity, Message: message, Fix: fix}}
}

// uploadConfig reads what upload pods of the Tenant get; nil without one.
func (d *Diagnosis) uploadConfig(ctx context.Context, tenant *v1alpha1.Tenant) (*tenantconfig.Upload, error) {
	var secret corev1.Secret
	key := client.ObjectKey{
		Namespace: d.UploadNamespace,
		Name:      tenantconfig.SecretName(tenantconfig.PrefixUpload, tenant.ID()),
	}
	if err := d.Reader.Get(ctx, key, &secret); err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	return tenantconfig.DecodeUpload(secret.Data[tenantconfig.Key])
}
