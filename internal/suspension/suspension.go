// Package suspension finds out whether a Tenant is suspended, for every controller that must know.
package suspension

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/bounded"
)

// maxReason bounds the platform's reason in a condition's message, in bytes.
const maxReason = 256

// Suspension is whether a Tenant is suspended, and by whom. The zero value is a Tenant that is not suspended.
type Suspension struct {
	// Reason is v1alpha1.ReasonSuspended or v1alpha1.ReasonPlatformSuspended. It is empty if the Tenant is not suspended.
	Reason string
	// Message is the text of the condition Suspended.
	Message string
}

// Suspended reports whether the Tenant is suspended.
func (s Suspension) Suspended() bool { return s.Reason != "" }

// Of returns whether a Tenant is suspended, by its spec or by the annotations of its Namespace. It reads only the
// metadata of the Namespace: from the cache, and from the API server if the cache does not have it yet.
func Of(ctx context.Context, t *v1alpha1.Tenant, cached, live client.Reader) (Suspension, error) {
	annotations, err := Annotations(ctx, t, cached, live)
	if err != nil {
		return Suspension{}, err
	}
	return decide(t, annotations), nil
}

// Known reports whether a Tenant is suspended by its spec, or was when its status was written. It reads nothing.
func Known(t *v1alpha1.Tenant) bool {
	return bySpec(t) || apimeta.IsStatusConditionTrue(t.Status.Conditions, v1alpha1.ConditionSuspended)
}

func bySpec(t *v1alpha1.Tenant) bool { return t.Spec.Suspend != nil && *t.Spec.Suspend }

// Annotations returns the annotations of a Tenant's Namespace, which the platform writes.
func Annotations(ctx context.Context, t *v1alpha1.Tenant, cached, live client.Reader) (map[string]string, error) {
	var ns metav1.PartialObjectMetadata
	ns.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	err := cached.Get(ctx, client.ObjectKey{Name: t.Namespace}, &ns)
	if apierrors.IsNotFound(err) {
		err = live.Get(ctx, client.ObjectKey{Name: t.Namespace}, &ns)
	}
	if err != nil {
		return nil, fmt.Errorf("read the annotations of Namespace %s: %w", t.Namespace, err)
	}
	return ns.Annotations, nil
}

// decide returns whether a Tenant is suspended, from its spec and the annotations of its Namespace. The platform
// outranks the spec: the author of a Tenant can edit the Tenant, but not the Namespace.
func decide(t *v1alpha1.Tenant, namespaceAnnotations map[string]string) Suspension {
	for _, key := range []string{v1alpha1.AnnotationSuspend, v1alpha1.AnnotationSuspend + "." + t.Name} {
		if why, set := namespaceAnnotations[key]; set && why != "false" {
			return Suspension{
				Reason:  v1alpha1.ReasonPlatformSuspended,
				Message: platformMessage(why),
			}
		}
	}
	if bySpec(t) {
		return Suspension{
			Reason:  v1alpha1.ReasonSuspended,
			Message: "spec.suspend is true: webhooks are refused and uploads wait",
		}
	}
	return Suspension{}
}

// platformMessage returns the condition's message for the platform's reason. The values "true" and "" name none.
func platformMessage(why string) string {
	const message = "the platform has suspended this Tenant: webhooks are refused and uploads wait"
	why = strings.TrimSpace(bounded.Text(why, maxReason))
	if why == "" || why == "true" {
		return message
	}
	return message + "; reason: " + why
}
