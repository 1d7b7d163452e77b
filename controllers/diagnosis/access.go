package diagnosis

import (
	"context"
	"fmt"

	authorizationv1 "k8s.io/api/authorization/v1"

	"github.com/caly-dev/caly/internal/doctor"
)

// right is what the operator must be able to do. Its namespace is empty for a namespace that Tenants live in.
type right struct {
	namespace            string
	group, resource, sub string
	verbs                []string
	consequence          string
	clusterWide          bool
}

// needs are the rights whose lack stops something. A test compares them with the generated role.
func (d *Diagnosis) needs() []right {
	const caly = "voice.caly.dev"
	read := []string{"get", "list", "watch"}
	write := []string{"get", "list", "watch", "create", "patch", "delete"}
	return []right{
		{
			group:       caly,
			resource:    "tenants",
			verbs:       []string{"get", "list", "watch", "update", "patch"},
			consequence: "no Tenant is compiled",
		},
		{
			group:       caly,
			resource:    "tenants",
			sub:         "status",
			verbs:       []string{"update", "patch"},
			consequence: "no Tenant shows its state",
		},
		{group: caly, resource: "callrecordings", verbs: write, consequence: "recordings have no CallRecording"},
		{
			group:       caly,
			resource:    "callrecordings",
			sub:         "status",
			verbs:       []string{"update", "patch"},
			consequence: "no CallRecording shows its state",
		},
		{resource: "secrets", verbs: read, consequence: "the Secrets of Tenants cannot be read"},
		{
			group:       "events.k8s.io",
			resource:    "events",
			verbs:       []string{"create", "patch"},
			consequence: "no event is written",
		},
		{resource: "namespaces", verbs: read, clusterWide: true, consequence: "the platform cannot suspend Tenants"},
		{
			namespace:   d.WorkNamespace,
			resource:    "secrets",
			verbs:       write,
			consequence: "the data plane gets no tenant config",
		},
		{namespace: d.UploadNamespace, resource: "secrets", verbs: write, consequence: "upload pods get no config"},
		{
			namespace:   d.UploadNamespace,
			group:       "batch",
			resource:    "jobs",
			verbs:       write,
			consequence: "no recording is uploaded",
		},
		{
			namespace:   d.UploadNamespace,
			resource:    "pods",
			verbs:       read,
			consequence: "upload pods that do not start are not explained",
		},
	}
}

// rights asks the API server for each right of the operator, in each namespace that it watches.
func (d *Diagnosis) rights(ctx context.Context) []doctor.Finding {
	var found []doctor.Finding
	asked := 0
	for _, need := range d.needs() {
		namespaces := []string{need.namespace}
		if need.namespace == "" && !need.clusterWide && len(d.Namespaces) > 0 {
			namespaces = d.Namespaces
		}
		for _, namespace := range namespaces {
			for _, verb := range need.verbs {
				review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
					ResourceAttributes: &authorizationv1.ResourceAttributes{
						Namespace:   namespace,
						Verb:        verb,
						Group:       need.group,
						Resource:    need.resource,
						Subresource: need.sub,
					},
				}}
				if err := d.Client.Create(ctx, review); err != nil {
					return append(found, one(doctor.Skipped, "the API server does not answer: "+err.Error(), "")...)
				}
				asked++
				if !review.Status.Allowed {
					found = append(found, lacking(need, namespace, verb))
				}
			}
		}
	}
	if len(found) == 0 {
		return one(doctor.OK, fmt.Sprintf("the API server allows the operator all %d things that it needs", asked), "")
	}
	return found
}

// lacking describes a right that is missing.
func lacking(need right, namespace, verb string) doctor.Finding {
	resource := need.resource
	if need.sub != "" {
		resource += "/" + need.sub
	}
	where := "in every namespace"
	if namespace != "" {
		where = "in the namespace " + namespace
	}
	return doctor.Finding{
		Severity: doctor.Critical,
		Object:   resource,
		Message:  fmt.Sprintf("the operator may not %s %s %s: %s", verb, resource, where, need.consequence),
		Fix:      "install the chart's RBAC again with helm upgrade, and look for policies that deny it",
	}
}
