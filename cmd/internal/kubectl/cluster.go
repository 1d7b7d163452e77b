package kubectl

import (
	"context"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
)

// maxObjects bounds what is read of one kind of Kubernetes objects.
const maxObjects = 1000

// partOf selects the objects of the chart.
var partOf = client.MatchingLabels{"app.kubernetes.io/part-of": "caly"}

// componentLabel is the label with the component's name.
const componentLabel = "app.kubernetes.io/component"

// Components of an installation.
const (
	componentOperator  = "operator"
	componentDataplane = "dataplane"
)

// cluster reads Kubernetes objects with a person's rights.
type cluster struct {
	client.Client
	// namespace is that of the installation.
	namespace string
}

// Cluster returns a client of the API server.
func (s *Session) Cluster() (*cluster, error) {
	config, err := s.Config()
	if err != nil {
		return nil, err
	}
	scheme := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(v1alpha1.AddToScheme(scheme))
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("use the kubeconfig: %w", err)
	}
	return &cluster{Client: c, namespace: s.operatorNamespace}, nil
}

// deployments returns those of the installation.
func (c *cluster) deployments(ctx context.Context) ([]appsv1.Deployment, error) {
	var list appsv1.DeploymentList
	err := c.List(ctx, &list, client.InNamespace(c.namespace), partOf, client.Limit(maxObjects))
	slices.SortFunc(list.Items, func(a, b appsv1.Deployment) int { return strings.Compare(a.Name, b.Name) })
	return list.Items, err
}

// pods returns those of the installation.
func (c *cluster) pods(ctx context.Context) ([]corev1.Pod, error) { return c.labelled(ctx, partOf) }

// labelled returns the pods with labels.
func (c *cluster) labelled(ctx context.Context, labels client.MatchingLabels) ([]corev1.Pod, error) {
	var list corev1.PodList
	err := c.List(ctx, &list, client.InNamespace(c.namespace), labels, client.Limit(maxObjects))
	return list.Items, err
}

// component returns the deployment of a component; nil without one.
func component(deployments []appsv1.Deployment, name string) *appsv1.Deployment {
	for i := range deployments {
		if deployments[i].Labels[componentLabel] == name {
			return &deployments[i]
		}
	}
	return nil
}

// argument returns the value of a flag of the first container; empty without it.
func argument(d *appsv1.Deployment, flag string) string {
	if d == nil {
		return ""
	}
	for _, container := range d.Spec.Template.Spec.Containers {
		for _, arg := range container.Args {
			if value, ok := strings.CutPrefix(arg, "--"+flag+"="); ok {
				return value
			}
		}
	}
	return ""
}

// image returns the image of the first container.
func image(spec *corev1.PodSpec) string {
	if len(spec.Containers) == 0 {
		return ""
	}
	return spec.Containers[0].Image
}
