package server

import (
	"context"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/caly-dev/caly/internal/doctor"
)

// Doctor runs checks in the operator's place.
type Doctor interface {
	// Platform checks what all Tenants share, and every Tenant.
	Platform(ctx context.Context) []doctor.Finding
	// Namespace checks the Tenants of one namespace.
	Namespace(ctx context.Context, namespace string) []doctor.Finding
}

// maxDiagnosed bounds the namespaces that are checked at once.
const maxDiagnosed = 4

// diagnosing has the namespaces that are checked now, and "" for the whole cluster, whose place no namespace can take: a
// person with the right in one namespace must not keep the platform from its checks.
type diagnosing struct {
	mu  sync.Mutex
	now map[string]bool
}

// enter reports whether the checks may run. They must leave then.
func (d *diagnosing) enter(namespace string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	namespaces := len(d.now)
	if d.now[""] {
		namespaces--
	}
	if d.now[namespace] || namespace != "" && namespaces >= maxDiagnosed {
		return false
	}
	if d.now == nil {
		d.now = map[string]bool{}
	}
	d.now[namespace] = true
	return true
}

// leave gives the place back.
func (d *diagnosing) leave(namespace string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.now, namespace)
}

// runDoctor runs the checks of the cluster or of a namespace.
func runDoctor(r *Request) (any, error) {
	s := r.server
	if s.Doctor == nil {
		return unknownOperation(r)
	}
	if watched := s.Namespaces; r.Namespace != "" && len(watched) > 0 && !slices.Contains(watched, r.Namespace) {
		return nil, apierrors.NewNotFound(corev1.Resource("namespaces"), r.Namespace)
	}
	if !s.diagnosing.enter(r.Namespace) {
		return nil, apierrors.NewTooManyRequests("another caller runs the checks; retry later", 5)
	}
	defer s.diagnosing.leave(r.Namespace)
	if r.Namespace != "" {
		return doctor.Report{Findings: s.Doctor.Namespace(r.Context(), r.Namespace)}, nil
	}
	return doctor.Report{Findings: s.Doctor.Platform(r.Context())}, nil
}
