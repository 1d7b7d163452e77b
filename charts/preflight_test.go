package charts

import (
	"context"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/caly-dev/caly/internal/testkit/calytest"
	"github.com/caly-dev/caly/internal/testkit/kubetest"
)

func TestMain(m *testing.M) { kubetest.Main(m) }

// everySecret are the Secrets of an installation with mail, TLS and a monitoring token, with their keys.
var everySecret = map[string][]string{
	"caly-database-owner":     {"url"},
	"caly-database-operator":  {"url"},
	"caly-database-dataplane": {"url"},
	"smtp":                    {"username", "password"},
	"smtp-ca":                 {"ca.crt"},
	"monitoring":              {"token"},
	"serving":                 {"tls.crt", "tls.key"},
}

const everySecretValues = "mail.address=smtp.example.com:587,mail.from=caly@example.com," +
	"mail.credentialsSecret=smtp,mail.caSecret=smtp-ca,api.monitoringTokenSecret=monitoring," +
	"dataplane.tls.secretName=serving,watchNamespaces={acme}"

// TestPreflightAtTheAPIServer checks that an installation fails before anything is created when a key of a Secret is
// missing, with the name of each.
func TestPreflightAtTheAPIServer(t *testing.T) {
	for name, tc := range map[string]struct {
		without map[string]string // Secret: key, or * for the Secret
		values  string
		want    []string
	}{
		"nothing is missing": {},
		"no Secret at all": {
			without: map[string]string{
				"caly-database-owner":     "*",
				"caly-database-operator":  "*",
				"caly-database-dataplane": "*",
				"smtp":                    "*",
				"smtp-ca":                 "*",
				"monitoring":              "*",
				"serving":                 "*",
			},
			want: []string{
				"the Secret caly-database-owner does not exist (database.ownerSecret)",
				"the Secret caly-database-operator does not exist (database.operatorSecret)",
				"the Secret caly-database-dataplane does not exist (database.dataplaneSecret)",
				"the Secret smtp does not exist (mail.credentialsSecret)",
				"the Secret smtp-ca does not exist (mail.caSecret)",
				"the Secret monitoring does not exist (api.monitoringTokenSecret)",
				"the Secret serving does not exist (dataplane.tls.secretName)",
			},
		},
		"a key": {
			without: map[string]string{"smtp": "password", "serving": "tls.key"},
			want: []string{
				"the Secret smtp lacks the key password (mail.credentialsSecret)",
				"the Secret serving lacks the key tls.key (dataplane.tls.secretName)",
			},
		},
		"created later": {without: map[string]string{"serving": "*"}, values: ",preflight.except={serving}"},
		"the owner's without migrations": {
			without: map[string]string{"caly-database-owner": "*"},
			values:  ",migrations.enabled=false",
		},
		"off": {without: map[string]string{"smtp": "*"}, values: ",preflight.enabled=false"},
	} {
		t.Run(name, func(t *testing.T) {
			env := kubetest.Get(t)
			namespace := env.NewNamespace(t)
			for secret, keys := range everySecret {
				if tc.without[secret] != "*" {
					createSecret(t, env, namespace, secret, without(keys, tc.without[secret]))
				}
			}
			said, err := install(t, namespace, everySecretValues+tc.values)
			if (err == nil) != (len(tc.want) == 0) {
				t.Fatalf("helm install: %v\n%s", err, said)
			}
			for _, want := range tc.want {
				if !strings.Contains(said, want) {
					t.Errorf("helm does not say %q:\n%s", want, said)
				}
			}
			if strings.Contains(said, "topsecret") {
				t.Errorf("helm prints a secret:\n%s", said)
			}
		})
	}
}

func without(keys []string, key string) map[string]string {
	data := map[string]string{}
	for _, k := range keys {
		if k != key {
			data[k] = "postgres://u:topsecret@db:5432/caly"
		}
	}
	return data
}

func createSecret(t *testing.T, env *kubetest.Env, namespace, name string, data map[string]string) {
	t.Helper()
	err := env.Client.Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		StringData: data,
	})
	if err != nil {
		t.Fatal(err)
	}
}

// install renders the chart as an installation does, with the API server, and creates nothing.
func install(t *testing.T, namespace, values string) (string, error) {
	t.Helper()
	// The CRDs of the tests are there already, and belong to no release.
	cmd := exec.Command(
		findHelm(t),
		"install",
		"caly",
		"caly",
		"--namespace",
		namespace,
		"--kubeconfig",
		calytest.Kubeconfig(t),
		"--dry-run=server",
		"--set",
		"crds.install=false,"+values,
	)
	said, err := cmd.CombinedOutput()
	return string(said), err
}

// TestHooksAtTheAPIServer creates the objects of the hooks in a namespace of the standard "restricted".
func TestHooksAtTheAPIServer(t *testing.T) {
	env := kubetest.Get(t)
	namespace := env.NewNamespace(t)
	restrict(t, env, namespace)
	rendered, err := exec.Command(findHelm(t), "template", "caly", "caly", "--namespace", namespace,
		"--set", everySecretValues).Output()
	if err != nil {
		t.Fatal(err)
	}
	created := 0
	for document := range strings.SplitSeq(string(rendered), "\n---\n") {
		var o unstructured.Unstructured
		if err := yaml.Unmarshal([]byte(document), &o.Object); err != nil {
			t.Fatal(err)
		}
		if o.GetAnnotations()["helm.sh/hook"] == "" {
			continue
		}
		created++
		if o.GetKind() == "Pod" {
			o.SetLabels(nil)
			_ = unstructured.SetNestedField(o.Object, "default", "spec", "serviceAccountName")
		}
		if err := env.Client.Create(t.Context(), &o); err != nil {
			t.Errorf("%s %s: %v", o.GetKind(), o.GetName(), err)
		}
	}
	if created != 10 {
		t.Errorf("%d hooks, want 10: 2 Jobs, the test with its 2 Services, and 5 policies", created)
	}
}

// restrict makes the API server refuse pods that are not restricted, and gives them a ServiceAccount.
func restrict(t *testing.T, env *kubetest.Env, namespace string) {
	t.Helper()
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": map[string]string{
		"pod-security.kubernetes.io/enforce": "restricted",
	}}})
	if err != nil {
		t.Fatal(err)
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "default"}}
	if err := env.Client.Patch(
		context.Background(), ns, client.RawPatch("application/merge-patch+json", patch),
	); err != nil {
		t.Fatal(err)
	}
	if err := env.Client.Create(t.Context(), account); err != nil {
		t.Fatal(err)
	}
}
