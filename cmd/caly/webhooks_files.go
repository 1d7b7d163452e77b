package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/caly-dev/caly/api/v1alpha1"
)

// tenantFiles are files with a Tenant and its Secrets, in YAML.
type tenantFiles []string

// read returns the Tenant of that id, and a reader of the Secrets. Its errors quote nothing of a file.
func (f tenantFiles) read(_ context.Context, id string) (client.Client, *v1alpha1.Tenant, error) {
	objects := &fileObjects{secrets: map[client.ObjectKey]*corev1.Secret{}}
	for _, name := range f {
		if err := objects.add(name, id); err != nil {
			return nil, nil, err
		}
	}
	if objects.tenant == nil {
		return nil, nil, fmt.Errorf("none of the files has the Tenant %s", id)
	}
	return objects, objects.tenant, nil
}

// fileObjects are the objects of files. Of a client only Get is used.
type fileObjects struct {
	client.Client
	tenant  *v1alpha1.Tenant
	secrets map[client.ObjectKey]*corev1.Secret
}

// add reads the documents of a file.
func (o *fileObjects) add(name, id string) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	documents := utilyaml.NewYAMLReader(bufio.NewReader(file))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = o.addDocument(document, id)
		}
		if err != nil {
			return fmt.Errorf("%s: a document is not a Tenant or a Secret in YAML", name)
		}
	}
}

// addDocument adds a Tenant with the id, or a Secret. Other kinds are left out.
func (o *fileObjects) addDocument(document []byte, id string) error {
	var kind metav1.TypeMeta
	if err := yaml.Unmarshal(document, &kind); err != nil {
		return err
	}
	switch kind.Kind {
	case "Tenant":
		var t v1alpha1.Tenant
		if err := yaml.UnmarshalStrict(document, &t); err != nil {
			return err
		}
		if t.ID() == id {
			o.tenant = &t
		}
	case "Secret":
		var s corev1.Secret
		if err := yaml.Unmarshal(document, &s); err != nil {
			return err
		}
		if s.Data == nil {
			s.Data = map[string][]byte{}
		}
		for key, value := range s.StringData {
			s.Data[key] = []byte(value)
		}
		o.secrets[client.ObjectKeyFromObject(&s)] = &s
	}
	return nil
}

// Get returns a Secret of the files.
func (o *fileObjects) Get(_ context.Context, key client.ObjectKey, object client.Object, _ ...client.GetOption) error {
	found := o.secrets[key]
	into, ok := object.(*corev1.Secret)
	if found == nil || !ok {
		return apierrors.NewNotFound(schema.GroupResource{Resource: "secrets"}, key.Name)
	}
	found.DeepCopyInto(into)
	return nil
}
