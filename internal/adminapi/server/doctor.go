package server

import (
	"context"
	"slices"

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

// runDoctor runs the checks of the cluster or of a namespace.
func runDoctor(r *Request) (any, error) {
	s := r.server
	if s.Doctor == nil {
		return unknownOperation(r)
	}
	if watched := s.Namespaces; r.Namespace != "" && len(watched) > 0 && !slices.Contains(watched, r.Namespace) {
		return nil, apierrors.NewNotFound(corev1.Resource("namespaces"), r.Namespace)
	}
	if !s.diagnosing.CompareAndSwap(false, true) {
		return nil, apierrors.NewTooManyRequests("another caller runs the checks; retry later", 5)
	}
	defer s.diagnosing.Store(false)
	if r.Namespace != "" {
		return doctor.Report{Findings: s.Doctor.Namespace(r.Context(), r.Namespace)}, nil
	}
	return doctor.Report{Findings: s.Doctor.Platform(r.Context())}, nil
}
