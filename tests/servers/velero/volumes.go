package main

// Which volumes of a pod Velero's file-system backup takes: the peer of the differential test.
//
// Each line of standard input is {"pod": {...}, "claims": [...], "volumes": [...], "optOut": bool} with whole API objects;
// each line of the output {"backedUp": [names], "errors": [...]}. It is Velero's own code that decides: the volume helper
// that its backup of a pod asks, then the pod volume backupper with all its checks, against a client that holds exactly
// these objects, a node agent and a repository.

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/sirupsen/logrus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	toolscache "k8s.io/client-go/tools/cache"
	ctrlcache "sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/vmware-tanzu/velero/internal/volumehelper"
	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	"github.com/vmware-tanzu/velero/pkg/podvolume"
	"github.com/vmware-tanzu/velero/pkg/repository"
)

const veleroNamespace = "velero"

type volumesQuestion struct {
	Pod     *corev1.Pod                    `json:"pod"`
	Claims  []corev1.PersistentVolumeClaim `json:"claims"`
	Volumes []corev1.PersistentVolume      `json:"volumes"`
	OptOut  bool                           `json:"optOut"`
}

type volumesAnswer struct {
	BackedUp []string `json:"backedUp"`
	Errors   []string `json:"errors,omitempty"`
}

// silentInformer tells of no PodVolumeBackup: nobody waits for their end.
type silentInformer struct{ ctrlcache.Informer }

func (silentInformer) AddEventHandler(toolscache.ResourceEventHandler) (toolscache.ResourceEventHandlerRegistration, error) {
	return nil, nil
}

func (silentInformer) HasSynced() bool { return true }

func (q *volumesQuestion) ask(scheme *runtime.Scheme, log logrus.FieldLogger) (reply volumesAnswer) {
	reply.BackedUp = []string{}
	fail := func(err error) volumesAnswer {
		reply.Errors = append(reply.Errors, err.Error())
		return reply
	}
	agent := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: veleroNamespace, Name: "node-agent", Labels: map[string]string{"role": "node-agent"}},
		Spec:       corev1.PodSpec{NodeName: q.Pod.Spec.NodeName},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning},
	}
	repo := repository.NewBackupRepository(veleroNamespace, repository.BackupRepositoryKey{
		VolumeNamespace: q.Pod.Namespace, BackupLocation: "default", RepositoryType: velerov1.BackupRepositoryTypeKopia,
	})
	repo.Status.Phase = velerov1.BackupRepositoryPhaseReady
	builder := fake.NewClientBuilder().WithScheme(scheme).WithObjects(agent, repo, q.Pod)
	for i := range q.Claims {
		builder = builder.WithObjects(&q.Claims[i])
	}
	for i := range q.Volumes {
		builder = builder.WithObjects(&q.Volumes[i])
	}
	client := builder.Build()

	helper := volumehelper.NewVolumeHelperImpl(nil, nil, log, client, q.OptOut, false)
	var chosen []string
	for _, volume := range q.Pod.Spec.Volumes {
		isChosen, err := helper.ShouldPerformFSBackup(volume, *q.Pod)
		if err != nil {
			return fail(err)
		}
		if isChosen {
			chosen = append(chosen, volume.Name)
		}
	}
	backup := &velerov1.Backup{
		ObjectMeta: metav1.ObjectMeta{Namespace: veleroNamespace, Name: "b"},
		Spec:       velerov1.BackupSpec{StorageLocation: "default"},
	}
	ensurer := repository.NewEnsurer(client, log, time.Second)
	factory := podvolume.NewBackupperFactory(repository.NewRepoLocker(), ensurer, client, silentInformer{}, log)
	backupper, err := factory.NewBackupper(context.Background(), log, backup, "kopia")
	if err != nil {
		return fail(err)
	}
	taken, _, errs := backupper.BackupPodVolumes(backup, q.Pod, chosen, nil, log)
	for _, err := range errs {
		reply.Errors = append(reply.Errors, err.Error())
	}
	for _, one := range taken {
		reply.BackedUp = append(reply.BackedUp, one.Spec.Volume)
	}
	return reply
}

func answerAboutVolumes() {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, velerov1.AddToScheme} {
		if err := add(scheme); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 64<<20)
	out := bufio.NewWriter(os.Stdout)
	for lines.Scan() {
		question := volumesQuestion{}
		reply := volumesAnswer{}
		if err := json.Unmarshal(lines.Bytes(), &question); err != nil || question.Pod == nil {
			reply.Errors = []string{fmt.Sprint("no question: ", err)}
		} else {
			reply = question.ask(scheme, log)
		}
		text, err := json.Marshal(reply)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		out.Write(append(text, '\n'))
		out.Flush()
	}
}
