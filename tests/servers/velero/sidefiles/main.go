// Writes what a backup with volume data has beside its tarball, from Velero's own Go types and by its own code: pod
// volume backups, CSI and native snapshots, operations and the summary of all volumes. The data itself does not exist;
// that would need a node and a storage system.
//
//	sidefiles FOLDER [legacy]
//
// FOLDER is `backups/<name>` of a backup of the kiosk (tests/fixtures/applications/kiosk.yaml); `legacy` adds the files
// that Velero wrote up to 1.16. Names are those of the fixture, times are fixed.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumesnapshot/v1"
	"github.com/sirupsen/logrus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kbclient "sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/vmware-tanzu/velero/pkg/apis/velero/shared"
	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	"github.com/vmware-tanzu/velero/pkg/backup"
	"github.com/vmware-tanzu/velero/pkg/itemoperation"
	"github.com/vmware-tanzu/velero/pkg/kuberesource"
	"github.com/vmware-tanzu/velero/pkg/plugin/velero"
	"github.com/vmware-tanzu/velero/pkg/util/encode"
)

const (
	namespace = "kiosk"
	pod       = "seller-0"
	driver    = "csi.example.com"
	snapshot  = "velero-stock-x7k2p"
	content   = "snapcontent-0d9c7b1e-5a53-4c8e-9a0e-6f1f1f6a2d11"
)

var begun = metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
var ended = metav1.NewTime(begun.Add(7 * time.Second))

// The objects that Velero's code asks the API server for.
type cluster struct{ kbclient.Client }

func (cluster) Get(_ context.Context, key kbclient.ObjectKey, into kbclient.Object, _ ...kbclient.GetOption) error {
	found, isPod := into.(*corev1.Pod)
	if !isPod || key.Name != pod {
		return fmt.Errorf("%T %s is not there", into, key)
	}
	found.Spec.Volumes = []corev1.Volume{
		{Name: "stock", VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "stock"}}},
		{Name: "ledger", VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "ledger"}}},
		{Name: "cache"},
	}
	return nil
}

func main() {
	if len(os.Args) < 2 {
		fail(fmt.Errorf("usage: sidefiles FOLDER [legacy]"))
	}
	folder := os.Args[1]
	text, err := os.ReadFile(filepath.Join(folder, "velero-backup.json"))
	fail(err)
	var of velerov1.Backup
	fail(json.Unmarshal(text, &of))

	podVolumes := []*velerov1.PodVolumeBackup{podVolume(of, "ledger", "kledger00"), podVolume(of, "cache", "kcache000")}
	snapshots, contents, classes := csi(of)
	operations := []*itemoperation.BackupOperation{operation(of)}

	request := backup.Request{Backup: &of}
	volumes := &request.VolumesInformation
	volumes.Init()
	for _, claim := range []string{"stock", "ledger", "archive"} {
		volumes.InsertPVMap(corev1.PersistentVolume{
			ObjectMeta: metav1.ObjectMeta{Name: "kiosk-" + claim},
			Spec:       corev1.PersistentVolumeSpec{PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain},
		}, claim, namespace)
	}
	volumes.BackupName = of.Name
	volumes.PodVolumeBackups = podVolumes
	volumes.BackupOperations = operations
	volumes.SkippedPVs = map[string]string{"kiosk-archive": "skipped due to resource policy "}
	infos := volumes.Result(snapshots, contents, classes, cluster{}, logrus.New())

	write(folder, of.Name, "podvolumebackups", podVolumes)
	write(folder, of.Name, "itemoperations", operations)
	write(folder, of.Name, "volumeinfo", infos)
	if len(os.Args) > 2 && os.Args[2] == "legacy" {
		write(folder, of.Name, "csi-volumesnapshots", snapshots)
		write(folder, of.Name, "csi-volumesnapshotcontents", contents)
		write(folder, of.Name, "csi-volumesnapshotclasses", classes)
	}
}

func podVolume(of velerov1.Backup, volume, snapshotID string) *velerov1.PodVolumeBackup {
	return &velerov1.PodVolumeBackup{
		TypeMeta: metav1.TypeMeta{APIVersion: "velero.io/v1", Kind: "PodVolumeBackup"},
		ObjectMeta: metav1.ObjectMeta{
			Name: of.Name + "-" + volume, Namespace: of.Namespace, CreationTimestamp: begun,
			Labels: map[string]string{velerov1.BackupNameLabel: of.Name, velerov1.BackupUIDLabel: string(of.UID)},
		},
		Spec: velerov1.PodVolumeBackupSpec{
			Node:                  "node-1",
			Pod:                   corev1.ObjectReference{Kind: "Pod", Namespace: namespace, Name: pod},
			Volume:                volume,
			BackupStorageLocation: of.Spec.StorageLocation,
			RepoIdentifier:        "",
			UploaderType:          "kopia",
			Tags:                  map[string]string{"backup": of.Name, "ns": namespace, "pod": pod, "volume": volume},
		},
		Status: velerov1.PodVolumeBackupStatus{
			Phase: velerov1.PodVolumeBackupPhaseCompleted, SnapshotID: snapshotID, Path: "/host_pods/0/volumes/" + volume,
			StartTimestamp: &begun, CompletionTimestamp: &ended,
			Progress: shared.DataMoveOperationProgress{TotalBytes: 1 << 20, BytesDone: 1 << 20},
		},
	}
}

func csi(of velerov1.Backup) ([]snapshotv1.VolumeSnapshot, []snapshotv1.VolumeSnapshotContent, []snapshotv1.VolumeSnapshotClass) {
	claim, class, handle, bound, ready := "stock", "csi-class", "snap-0001", content, true
	size, created := resource.MustParse("1Gi"), begun.UnixNano()
	bytes := size.Value()
	labels := map[string]string{velerov1.BackupNameLabel: of.Name}
	return []snapshotv1.VolumeSnapshot{{
			TypeMeta:   metav1.TypeMeta{APIVersion: "snapshot.storage.k8s.io/v1", Kind: "VolumeSnapshot"},
			ObjectMeta: metav1.ObjectMeta{Name: snapshot, Namespace: namespace, Labels: labels},
			Spec: snapshotv1.VolumeSnapshotSpec{VolumeSnapshotClassName: &class,
				Source: snapshotv1.VolumeSnapshotSource{PersistentVolumeClaimName: &claim}},
			Status: &snapshotv1.VolumeSnapshotStatus{BoundVolumeSnapshotContentName: &bound, CreationTime: &begun,
				ReadyToUse: &ready, RestoreSize: &size},
		}}, []snapshotv1.VolumeSnapshotContent{{
			TypeMeta:   metav1.TypeMeta{APIVersion: "snapshot.storage.k8s.io/v1", Kind: "VolumeSnapshotContent"},
			ObjectMeta: metav1.ObjectMeta{Name: content, Labels: labels},
			Spec: snapshotv1.VolumeSnapshotContentSpec{Driver: driver, DeletionPolicy: snapshotv1.VolumeSnapshotContentRetain,
				VolumeSnapshotRef: corev1.ObjectReference{Namespace: namespace, Name: snapshot}},
			Status: &snapshotv1.VolumeSnapshotContentStatus{SnapshotHandle: &handle, ReadyToUse: &ready, RestoreSize: &bytes,
				CreationTime: &created},
		}}, []snapshotv1.VolumeSnapshotClass{{
			TypeMeta:       metav1.TypeMeta{APIVersion: "snapshot.storage.k8s.io/v1", Kind: "VolumeSnapshotClass"},
			ObjectMeta:     metav1.ObjectMeta{Name: class},
			Driver:         driver,
			DeletionPolicy: snapshotv1.VolumeSnapshotContentDelete,
		}}
}

func operation(of velerov1.Backup) *itemoperation.BackupOperation {
	identifier := velero.ResourceIdentifier{GroupResource: kuberesource.VolumeSnapshots, Namespace: namespace, Name: snapshot}
	return &itemoperation.BackupOperation{
		Spec: itemoperation.BackupOperationSpec{
			BackupName: of.Name, BackupUID: string(of.UID), BackupItemAction: "velero.io/csi-volumesnapshot-backupper",
			ResourceIdentifier: identifier, OperationID: namespace + "/" + snapshot + "/2026-01-02T03:04:05Z",
			PostOperationItems: []velero.ResourceIdentifier{identifier},
		},
		Status: itemoperation.OperationStatus{Phase: itemoperation.OperationPhaseCompleted, Created: &begun, Started: &begun, Updated: &ended},
	}
}

func write(folder, name, file string, data any) {
	zipped, errs := encode.ToJSONGzip(data, file)
	for _, err := range errs {
		fail(err)
	}
	fail(os.WriteFile(filepath.Join(folder, name+"-"+file+".json.gz"), zipped.Bytes(), 0o644))
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
