package v1alpha1_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/internal/testkit/kubetest"
)

func TestMain(m *testing.M) { kubetest.Main(m) }

// strict refuses fields that the schema does not know, as kubectl does.
func strict(t *testing.T) client.Client {
	return client.WithFieldValidation(kubetest.Get(t).Client, metav1.FieldValidationStrict)
}

// fields are paths such as "spec.exotel.region" and their values; nil removes a field.
type fields map[string]any

// object reads a manifest and sets fields of it.
func object(t *testing.T, namespace, manifest string, set fields) *unstructured.Unstructured {
	t.Helper()
	obj := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(manifest), &obj.Object); err != nil {
		t.Fatal(err)
	}
	obj.SetNamespace(namespace)
	for path, v := range set {
		keys := strings.Split(path, ".")
		if v == nil {
			unstructured.RemoveNestedField(obj.Object, keys...)
		} else if err := unstructured.SetNestedField(obj.Object, v, keys...); err != nil {
			t.Fatal(err)
		}
	}
	return obj
}

// read returns the values of the wanted fields.
func read(o *unstructured.Unstructured, want fields) fields {
	got := fields{}
	for path := range want {
		v, found, _ := unstructured.NestedFieldNoCopy(o.Object, strings.Split(path, ".")...)
		if found {
			got[path] = v
		} else {
			got[path] = nil
		}
	}
	return got
}

// refusal is the field that the server's answer blames, and part of what it says.
type refusal struct{ field, message string }

// check compares the server's answer with the refusal that is wanted; the zero refusal wants none.
func (want refusal) check(t *testing.T, err error) {
	t.Helper()
	if want == (refusal{}) {
		if err != nil {
			t.Errorf("refused: %v", err)
		}
		return
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) || !apierrors.IsInvalid(err) {
		t.Fatalf("got %v, want a refusal of %s", err, want.field)
	}
	for _, c := range status.Status().Details.Causes {
		if c.Field == want.field && strings.Contains(c.Message, want.message) &&
			strings.Contains(err.Error(), want.field) {
			return
		}
	}
	t.Errorf("the refusal does not say %q of %s: %v", want.message, want.field, err)
}

// create makes the object, and deletes it when the test ends, since the name is used again.
func create(t *testing.T, o client.Object) error {
	t.Helper()
	c := strict(t)
	err := c.Create(t.Context(), o)
	if err == nil {
		t.Cleanup(func() { _ = c.Delete(context.Background(), o) })
	}
	return err
}
