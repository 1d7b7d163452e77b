// Package charts checks the Helm chart as it is rendered: what each pod may do and see.
package charts

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"
)

// installations are values that the rules of this file hold for. None of them may weaken a rule.
var installations = map[string][]string{
	"the defaults":        nil,
	"everything on":       {"--values", "caly/ci/full-values.yaml"},
	"the whole cluster":   {"--values", "caly/ci/full-values.yaml", "--set", "watchNamespaces=null"},
	"in production":       {"--values", "caly/ci/full-values.yaml", "--set", "api.mode=production"},
	"IDs of the platform": {"--set", "podSecurityContext.runAsUser=0,podSecurityContext.runAsGroup=0"},
	"a public Service":    {"--set", "dataplane.service.type=LoadBalancer"},
	"Ingress":             {"--set", "ingress.enabled=true,ingress.host=caly.example.com"},
	"web identity":        {"--set", "storage.webIdentity.enabled=true"},
	"a test token":        {"--set", "api.testTokenSecret=caly-test-token"},
}

// object is what the rules look at in objects of every kind.
type object struct {
	installation string
	text         string // the whole document

	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Rules             []rbacv1.PolicyRule `json:"rules"`
	Spec              struct {
		corev1.PodSpec `json:",inline"`
		Template       corev1.PodTemplateSpec `json:"template"`
		Ports          []corev1.ServicePort   `json:"ports"`
	} `json:"spec"`
}

func (o *object) String() string { return o.Kind + " " + o.Name }

func (o *object) component() string { return o.Labels["app.kubernetes.io/component"] }

// hasPods reports whether the object is one that makes pods.
func (o *object) hasPods() bool { return o.Kind == "Deployment" || o.Kind == "Job" || o.Kind == "Pod" }

// pod is what the object says of its pods.
func (o *object) pod() corev1.PodSpec {
	if o.Kind == "Pod" {
		return o.Spec.PodSpec
	}
	return o.Spec.Template.Spec
}

// containers are all containers of the object's pods.
func (o *object) containers() []corev1.Container {
	spec := o.pod()
	return slices.Concat(spec.InitContainers, spec.Containers)
}

// each renders the chart for every installation and calls check for each object.
func each(t *testing.T, check func(t *testing.T, o *object)) {
	t.Helper()
	helm := findHelm(t)
	for name, values := range installations {
		t.Run(name, func(t *testing.T) {
			args := append([]string{"template", "caly", "caly", "--namespace", "caly-system"}, values...)
			rendered, err := exec.Command(helm, args...).Output()
			if err != nil {
				t.Fatalf("helm %s: %v", strings.Join(args, " "), err)
			}
			seen := map[string]int{}
			for document := range bytes.SplitSeq(rendered, []byte("\n---\n")) {
				o := &object{installation: name, text: string(document)}
				if err := yaml.Unmarshal(document, o); err != nil {
					t.Fatalf("%v in:\n%s", err, document)
				}
				seen[o.Kind]++
				check(t, o)
			}
			if seen["Deployment"] != 2 || seen["Job"] != 2 || seen["Pod"] != 1 || seen["Service"] == 0 {
				t.Errorf("the chart renders %v, want both Deployments, both Jobs, the test and a Service", seen)
			}
		})
	}
}

// findHelm looks in PATH, then where test/cluster/build.sh puts its programs; it builds Helm once.
func findHelm(t *testing.T) string {
	t.Helper()
	if path, err := exec.LookPath("helm"); err == nil {
		return path
	}
	bin, err := exec.Command("../test/cluster/build.sh", "helm").Output()
	if err != nil {
		t.Fatalf("these tests need Helm: run test/cluster/build.sh helm (%v)", err)
	}
	return filepath.Join(strings.TrimSpace(string(bin)), "helm")
}

func TestPodsAreRestricted(t *testing.T) {
	each(t, func(t *testing.T, o *object) {
		if !o.hasPods() {
			return
		}
		pod := o.pod()
		if c := pod.SecurityContext; c == nil || c.RunAsNonRoot == nil || !*c.RunAsNonRoot ||
			c.RunAsUser != nil && *c.RunAsUser == 0 ||
			c.SeccompProfile == nil || c.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
			t.Errorf("%s: pods may run as root or without a seccomp profile: %+v", o, c)
		}
		if pod.HostNetwork || pod.HostPID || pod.HostIPC {
			t.Errorf("%s: pods share a namespace with their node", o)
		}
		for _, v := range pod.Volumes {
			if v.HostPath != nil {
				t.Errorf("%s: pods mount %s of their node", o, v.HostPath.Path)
			}
		}
		for _, c := range o.containers() {
			if fault := unrestricted(c.SecurityContext); fault != "" {
				t.Errorf("%s: container %s %s", o, c.Name, fault)
			}
		}
	})
}

// unrestricted says what a container may do that it must not; "" if it is restricted.
func unrestricted(c *corev1.SecurityContext) string {
	isSet := func(b *bool, want bool) bool { return b != nil && *b == want }
	switch {
	case c == nil:
		return "has no security context"
	case !isSet(c.AllowPrivilegeEscalation, false), isSet(c.Privileged, true):
		return "may gain privileges"
	case !isSet(c.ReadOnlyRootFilesystem, true):
		return "may write to its root file system"
	case c.Capabilities == nil, !slices.Equal(c.Capabilities.Drop, []corev1.Capability{"ALL"}),
		len(c.Capabilities.Add) > 0:
		return "keeps capabilities"
	case isSet(c.RunAsNonRoot, false), c.RunAsUser != nil && *c.RunAsUser == 0:
		return "runs as root"
	}
	return ""
}

// TestRights checks that no role has a wildcard, and that outside of Caly's own namespaces Secrets are only read.
func TestRights(t *testing.T) {
	own := []string{"caly-work", "caly-uploads", "caly-system"}
	each(t, func(t *testing.T, o *object) {
		for _, rule := range o.Rules {
			for _, words := range [][]string{rule.Verbs, rule.Resources, rule.APIGroups} {
				if slices.Contains(words, "*") {
					t.Errorf("%s has a wildcard: %v", o, rule)
				}
			}
			reads := !slices.ContainsFunc(rule.Verbs, func(verb string) bool {
				return !slices.Contains([]string{"get", "list", "watch"}, verb)
			})
			if slices.Contains(rule.Resources, "secrets") && !reads && !slices.Contains(own, o.Namespace) {
				t.Errorf("%s may change tenants' Secrets: %v", o, rule.Verbs)
			}
		}
	})
}

// TestPublicService checks that no Service leads to probes, metrics or monitoring.
func TestPublicService(t *testing.T) {
	each(t, func(t *testing.T, o *object) {
		if o.Kind != "Service" {
			return
		}
		for _, port := range o.Spec.Ports {
			if port.TargetPort != intstr.FromString("http") {
				t.Errorf("%s: port %s leads to %s of the pods, want http alone", o, port.Name, port.TargetPort.String())
			}
		}
	})
}

func TestTestTokenIsOfDevelopment(t *testing.T) {
	each(t, func(t *testing.T, o *object) {
		development := o.installation == "everything on" || o.installation == "the whole cluster"
		wanted := development && o.Kind == "Deployment" && o.component() == "dataplane"
		if got := strings.Contains(o.text, "DEV_TEST_TOKEN"); got != wanted {
			t.Errorf("%s has DEV_TEST_TOKEN: %v, want %v", o, got, wanted)
		}
	})
}

// TestDatabaseSecrets checks that each component has its own database role, and no other.
func TestDatabaseSecrets(t *testing.T) {
	secrets := map[string]string{
		"migrate":   "caly-database-owner",
		"operator":  "caly-database-operator",
		"dataplane": "caly-database-dataplane",
	}
	each(t, func(t *testing.T, o *object) {
		for component, secret := range secrets {
			// The preflight pod sees all of them, and its NetworkPolicy lets it reach nothing.
			wanted := o.hasPods() && (o.component() == component || o.component() == "preflight")
			if got := strings.Contains(o.text, secret); got != wanted {
				t.Errorf("%s names the Secret %s: %v, want %v", o, secret, got, wanted)
			}
		}
	})
}

// TestAPITokens checks that only the programs that speak to the Kubernetes API have its token.
func TestAPITokens(t *testing.T) {
	each(t, func(t *testing.T, o *object) {
		if !o.hasPods() {
			return
		}
		mounted := o.pod().AutomountServiceAccountToken
		if wanted := o.component() == "operator" || o.component() == "dataplane"; mounted == nil || *mounted != wanted {
			t.Errorf("%s: automountServiceAccountToken is not set to %v", o, wanted)
		}
	})
}
