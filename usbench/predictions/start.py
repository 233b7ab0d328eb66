"""`usbench.predict`: finished runs and patients in, masks out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from usbench.datasets.patients.given import Given, name_of
from usbench.datasets.patients.sources import Patients, given_patient, open_patients
from usbench.errors import UsbenchError, unknown
from usbench.predictions.dicom_seg import require_highdicom
from usbench.predictions.ensemble import load_runs, predict_together, prepare_for
from usbench.predictions.files import Listed, Wanted, write_case
from usbench.predictions.known import TrainedOn
from usbench.runs.network import TrainedNetwork
from usbench.runtime.console import say, track
from usbench.storage.files import at_home, locked, require_writable
from usbench.storage.temporary import sweep


def predict(
    runs: str | Path | Sequence[str | Path],
    *,
    images: Mapping[str, Given] | None = None,
    input: str | Path | None = None,
    out: str | Path,
    case: str | None = None,
    cases: Sequence[str] | None = None,
    probabilities: bool = False,
    dicom_seg: bool = False,
    resample: bool = False,
    allow_missing: bool = False,
    device: str = "auto",
    plugins: Sequence[str | Path] = (),
    overwrite: bool = False,
) -> dict[str, Any]:
    """Predict patients by finished runs that kept their networks, and write masks on the patients' own grids.

    The mask of one run is what the run itself would write; of several runs the probabilities are averaged on
    the patient's grid. Patients who are finished are not computed again, so a call that was stopped goes on.

    Args:
        runs: folders of finished runs, or folders that hold them; of one task, with the same modalities and
            classes.
        images: of one patient, by modality a NIfTI file ("case.nii.gz:0" for the first of its volumes), the
            folder of a DICOM series, or an array [X, Y, Z] with its affine [4, 4].
        input: in place of `images`, a folder of patients, of one patient, of data in the layout of the task,
            or a task file.
        out: the folder to write into: CASE.nii.gz, CASE.png and predictions.json.
        case: what the patient of `images` is called; by default after the first file.
        cases: of those in `input`, which; by default all.
        probabilities: also write CASE_probabilities.nii.gz, float32 with a class on the fourth axis.
        dicom_seg: also write CASE.dcm, a DICOM Segmentation, for scans that are DICOM series.
        resample: bring scans on another grid onto that of the first modality.
        allow_missing: predict patients that lack a modality; it is then zeros.
        device: "auto" (a GPU where there is one), "cpu" or "cuda".
        plugins: files that bring the method, the fusion or the task.
        overwrite: replace what is in `out`.

    Returns:
        What predictions.json holds.

    Raises:
        UsbenchError: for runs, patients or a folder that cannot be used, in one line.
    """
    if (images is None) == (input is None):
        raise UsbenchError("name the patient's files (images, --images) or the patients (input, --input)")
    if case is not None and images is None:
        raise UsbenchError(f"--case {case} names the patient of --images; of --input choose with --cases")
    if dicom_seg:
        require_highdicom()
    folder = at_home(out)
    networks = load_runs([runs] if isinstance(runs, str | Path) else list(runs), device, plugins)
    task = networks[0].task
    if images is not None:
        name = case or name_of(images, task.modality_names)
        patients = given_patient(task, images, name, resample, allow_missing)
    else:
        assert input is not None
        patients = open_patients(task, input, resample, allow_missing)
    chosen = _chosen(patients, cases)
    require_writable(folder)
    busy = UsbenchError(f"{folder}: another process is predicting into it; wait, or choose another --out")
    with locked(folder / ".lock", busy=busy, remove=True):
        sweep(folder)
        listed = Listed(folder, networks, overwrite)
        _predict_all(networks, patients, chosen, listed, Wanted(probabilities, dicom_seg))
    return listed.content()


def _chosen(patients: Patients, cases: Sequence[str] | None) -> list[str]:
    if cases is None:
        return list(patients.case_ids)
    for name in cases:
        if name not in patients.case_ids:
            there = f"there are {', '.join(patients.case_ids[:10])}"
            raise unknown("patient", name, patients.case_ids, there)
    return [name for name in patients.case_ids if name in set(cases)]


def _predict_all(
    networks: Sequence[TrainedNetwork],
    patients: Patients,
    chosen: Sequence[str],
    listed: Listed,
    wanted: Wanted,
) -> None:
    task = networks[0].task
    contents = {case_id: patients.content(case_id) for case_id in chosen}
    waiting = [i for i in chosen if not listed.done(i, contents[i], wanted)]
    if len(waiting) < len(chosen):
        say(f"{listed.folder}: {len(chosen) - len(waiting)} of {len(chosen)} patients are there already")
    if not waiting:
        return
    listed.write()
    trained_on = TrainedOn(networks)
    cells = [network.result.data["cell"] for network in networks]
    by = " + ".join(dict.fromkeys(f"{cell['method']} {cell['fusion']}" for cell in cells))
    for case_id in track(waiting, f"{task.name}: predicting", total=len(waiting)):
        patient = patients.read(case_id)
        if wanted.dicom_seg and not patient.slices:
            raise UsbenchError(
                f"case {case_id}: its grid is not that of a DICOM series, to which a DICOM Segmentation must "
                "refer; give the series, or leave out --dicom-seg"
            )
        prepared = prepare_for(networks, patient)
        if warning := trained_on.warning(prepared):
            say(f"note: {warning}")
        found = predict_together(networks, patient, prepared, wanted.probabilities)
        entry = write_case(listed.folder, found, task, wanted, by)
        listed.add(case_id, {"content": contents[case_id], **entry})
