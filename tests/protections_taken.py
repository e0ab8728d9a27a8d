"""The protections of docs/operations.md, each with the edit that takes it out and the test that must fail then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

Edit = tuple[str, str, str]
"""A file below src/tutelage, a text that stands there exactly once, and what takes its place."""


@dataclass(frozen=True, slots=True)
class Protection:
    """What a case of the table rests on.

    Several edits where one wall stands behind another. `test` is its name below tests/. `hangs`: without the protection
    it hangs, and so many seconds tell.
    """

    case: int
    taken: str
    edits: tuple[Edit, ...]
    test: str
    hangs: float = 0.0


def _out(case: int, taken: str, *edits: Edit, by: str, hangs: float = 0.0) -> Protection:
    return Protection(case, taken, edits, by, hangs)


_CHECKPOINT: Final = "training/checkpoint.py"
_BWRAP: Final = "sandbox/bubblewrap.py"

TAKEN: Final = (
    _out(
        1, "the optimizer's moments on resume",
        (_CHECKPOINT, "        if name in kept:\n", "        if name in ():\n"),
        by="pipelines/test_bitwise.py::test_killed_in_every_kind_of_moment_it_ends_as_if_it_had_not_been[sft]",
    ),
    _out(
        1, "cutting the logs back to the checkpoint",
        ("data/journal.py", "truncate(min(offset, self.offset))", "truncate(self.offset)"),
        by="training/test_metrics.py::test_resume_cuts_what_came_after_the_checkpoint",
    ),
    _out(
        2, "the dials of a checkpoint",
        (
            _CHECKPOINT,
            'state.step, state.policy.version, state.dials = about["step"], about["version"], about["dials"]',
            'state.step, state.policy.version = about["step"], about["version"]',
        ),
        by="pipelines/test_bitwise.py::test_nothing_can_be_left_out_of_a_checkpoint[sft-last]",
    ),
    _out(
        3, "writing beside, then renaming",
        (_CHECKPOINT, 'beside = folder / f".{final.name}.partial"', "beside = final"),
        (_CHECKPOINT, "        _remove(final)  # left from before a resume that fell back to an older one\n", ""),
        (_CHECKPOINT, "        beside.rename(final)\n", ""),
        by="pipelines/test_crashes.py::"
        "test_killed_at_any_instant_of_saving_or_pruning_the_newest_checkpoint_is_whole[1]",
    ),
    _out(
        4, "pruning only once the new one is there",
        (
            _CHECKPOINT,
            '    final = folder / f"step-{snapshot.step:06d}"\n',
            '    final = folder / f"step-{snapshot.step:06d}"\n'
            "    for outdated in _steps(folder)[: len(_steps(folder)) - keep + 1]:\n        _remove(outdated)\n",
        ),
        by="pipelines/test_crashes.py::"
        "test_killed_at_any_instant_of_saving_or_pruning_the_newest_checkpoint_is_whole[1]",
    ),
    _out(
        4, "removing out of sight first",
        (_CHECKPOINT, "        path.rename(gone)\n        shutil.rmtree(gone,", "        shutil.rmtree(path,"),
        by="pipelines/test_crashes.py::test_killed_while_it_removes_a_checkpoint_none_is_left_in_halves",
    ),
    _out(
        5, "catching what a read-only disk raises",
        (_CHECKPOINT, "except (OSError, SafetensorError) as error:", "except SafetensorError as error:"),
        by="pipelines/test_crashes.py::test_a_folder_that_cannot_be_written_is_told_with_the_remedy",
    ),
    _out(
        5, "catching what a full disk raises",
        (_CHECKPOINT, "except (OSError, SafetensorError) as error:", "except PermissionError as error:"),
        by="pipelines/test_refusals.py::"
        "test_a_full_disk_leaves_the_last_checkpoint_and_the_run_goes_on_once_there_is_room",
    ),
    _out(
        6, "comparing hashes",
        (_CHECKPOINT, "if file_digest(path / name) != manifest.get(name):", "if name not in manifest:"),
        by="pipelines/test_refusals.py::"
        "test_a_damaged_checkpoint_is_refused_by_its_hash_and_the_one_before_serves[flip]",
    ),
    _out(
        6, "going on to the checkpoint before",
        (
            _CHECKPOINT,
            '{path.name} refused: {fault}")\n            continue',
            '{path.name} refused: {fault}")\n            break',
        ),
        by="pipelines/test_crashes.py::test_whatever_is_damaged_in_a_checkpoint_the_one_before_serves_and_it_is_said",
    ),
    _out(
        7, "an update's wait for the checkpoint",
        ("training/saving.py", "        self._copied.wait()\n", ""),
        by="training/test_saving.py::test_the_next_update_waits_until_the_tensors_are_written",
    ),
    _out(
        8, "refusing other config, data or inputs",
        ("pipelines/decide.py", "before is not None and key.contradicts(before):", "before is None:"),
        by="pipelines/test_artefacts.py::test_a_run_is_not_resumed_with_what_it_did_not_begin_with",
    ),
    _out(
        8, "the data in a stage's key",
        (
            "pipelines/keys.py",
            '                hashed.update(repr(row).encode("utf-8", "surrogatepass"))\n',
            "                pass\n",
        ),
        by="pipelines/test_artefacts.py::test_half_done_with_other_data_is_not_resumed",
    ),
    _out(
        10, "the lock",
        ("pipelines/folder.py", "fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)", "pass"),
        by="pipelines/test_refusals.py::test_a_run_folder_is_held_by_one_process_and_holds_one_run",
    ),
    _out(
        11, "opening safetensors only",
        ("models/loading.py", "    if not has_weights(folder):\n", "    if not folder.is_dir():\n"),
        ("models/loading.py", "                use_safetensors=True,\n", ""),
        by="test_safety.py::test_pickled_weights_are_refused_with_the_remedy",
    ),
    _out(
        11, "opening an index's own safetensors only",
        ("models/loading.py", 'return Path(shard).name == shard and shard.endswith(".safetensors")', "return True"),
        by="test_safety.py::test_an_index_of_other_files_opens_none",
    ),
    _out(
        12, "letting finished stages stand",
        ("pipelines/decide.py", "if changed and (not resumed or", "if resumed or (changed and"),
        by="pipelines/test_artefacts.py::test_killed_at_any_boundary_it_ends_with_the_same_artefacts[before-run_stage]",
    ),
    _out(
        13, "saving the last finished step",
        ("training/fit.py", "if state.step > saved and not doubtful:", "if state.step < saved:"),
        by="training/test_saving.py::test_asked_to_end_the_last_finished_step_is_saved",
    ),
    _out(
        13, "ending at once on a second signal",
        ("interrupts.py", "    if _asked is not None:\n        for act", "    if _asked == -1:\n        for act"),
        by="pipelines/test_interrupts.py::test_a_second_request_ends_at_once",
    ),
    _out(
        14, "killing the workers on a second signal",
        ("rewards/process.py", "interrupts.before_exit(_kill_all)\n", ""),
        by="pipelines/test_interrupts.py::test_nobody_is_left_behind[twice]",
    ),
    _out(
        14, "giving up what is not scored yet",
        ("rewards/background.py", "            self._abandoned.set()\n", ""),
        by="rewards/test_background.py::test_what_stops_the_sampling_abandons_the_scoring_and_kills_its_workers",
    ),
    _out(
        15, "naming the term of a loss that is not finite",
        ("training/update.py", "if not math.isfinite(value):", "if value is None:"),
        by="training/test_finite.py::test_a_term_that_is_not_finite_is_named",
    ),
    _out(
        15, "looking at the gradient",
        ("training/update.py", "if not all(map(math.isfinite, norms)):", "if not norms:"),
        by="training/test_finite.py::test_of_a_backward_pass_that_overflows_the_weight_is_named",
    ),
    _out(
        15, "looking at rewards, advantages, values",
        ("training/update.py", "        check_fields(batch)\n", ""),
        by="training/test_finite.py::test_what_a_batch_brings_is_looked_at_before_it_is_learned_from",
    ),
    _out(
        15, "keeping the batch",
        ("training/fit.py", "keep_evidence(stage_folder, state.step + 1, batches, error)", "str(stage_folder)"),
        by="pipelines/test_guards.py::test_every_stage_stops_before_the_update_and_says_whose_fault_it_is[sft]",
    ),
    _out(
        15, "the bound on roll backs",
        ("training/watch.py", "if done >= self.guards.rollbacks:", "if done > self.guards.rollbacks:"),
        by="pipelines/test_guards.py::test_what_is_not_finite_may_be_rolled_back_too",
    ),
    _out(
        15, "going on slower",
        ("training/watch.py", "rate * self.guards.slow_down", "rate"),
        by="pipelines/test_guards.py::test_a_run_goes_back_before_the_step_that_went_too_far_and_on_at_a_lower_rate",
    ),
    _out(
        16, "dividing no spread by something",
        (
            "functional/advantages.py",
            "return centred_PG / (variance_P1.sqrt() + eps)",
            "return centred_PG / variance_P1.sqrt()",
        ),
        by="stages/test_degenerate.py::test_what_can_teach_nothing_moves_nothing[equal-grpo-0]",
    ),
    _out(
        16, "the deviation of one answer",
        (
            "functional/advantages.py",
            "centred_PG.square().sum(1, keepdim=True) / (count_P1 - 1).clamp(min=1)",
            "centred_PG.square().sum(1, keepdim=True) / (count_P1 - 1)",
        ),
        by="stages/test_degenerate.py::test_a_group_of_which_one_answer_is_left_moves_nothing[grpo]",
    ),
    _out(
        16, "a step without a rewarded token",
        ("stages/rl_task.py", "if not any(row.tokens for row in rows):", "if rows is None:"),
        by="stages/test_degenerate.py::test_what_can_teach_nothing_moves_nothing",
    ),
    _out(
        17, "the seed",
        ("seeds.py", "repr(parts)", "repr(parts[1:])"),
        by="pipelines/test_resume.py::test_another_seed_is_another_run",
    ),
    _out(
        17, "noise that the seed alone decides",
        (
            "seeds.py",
            "blake2b(repr(parts).encode()",
            "blake2b(repr((*parts, id([]), __import__('time').time_ns())).encode()",
        ),
        by="pipelines/test_guards.py::test_a_step_is_computed_again_to_the_last_bit[1]",
    ),
    _out(
        18, "the guard of the mismatch",
        (
            "training/guards.py",
            '"mismatch": Rule("mismatch", _above("mismatch"), _DIFFER, {"fp32": 1e-4, "bf16": 0.2}),',
            '"mismatch": Rule("mismatch", _above("mismatch"), _DIFFER, {"fp32": 1e9, "bf16": 1e9}),',
        ),
        ("training/guards.py", '{"fp32": 1e-3, "bf16": 3.0}', '{"fp32": 1e9, "bf16": 1e9}'),
        by="stages/test_injected_bugs.py::"
        "test_a_learner_that_computes_another_model_is_stopped_in_its_first_step[shift-fp32]",
    ),
    _out(
        18, "the guard of the credit's sign",
        ("training/guards.py", 'known[-1]["credit"] < -limit', 'known[-1]["credit"] < -9.0'),
        by="stages/test_injected_bugs.py::test_credit_with_the_wrong_sign_is_stopped_in_the_third_step",
    ),
    _out(
        18, "the guard of a reward that falls",
        ("training/guards.py", "return max(means) - means[-1] > limit", "return max(means) - means[-1] > 1e9 * limit"),
        by="training/test_guards.py::test_a_reward_that_falls_is_told_from_one_that_wavers",
    ),
    _out(
        19, "refusing answers of old weights",
        ("stages/collect.py", "            _refuse_stale(groups, policy.version)\n", ""),
        by="stages/test_injected_bugs.py::test_an_engine_that_kept_old_weights_is_stopped_in_the_second_step[True]",
    ),
    _out(
        19, "telling the decoder of new weights",
        ("engines/native.py", "            self.decoder.refresh()\n", ""),
        by="engines/test_native.py::test_a_decoder_hears_of_every_new_version_once_before_it_is_used",
    ),
    _out(
        19, "comparing packed weights with the policy's",
        (
            "engines/native.py",
            "if (weight := self.decoder.outdated(self.version)) is not None:",
            "if (weight := None) is not None:",
        ),
        by="engines/test_compiled.py::test_packed_weights_that_are_not_the_policys_are_found",
    ),
    _out(
        20, "a job's deadline, and a hung worker's own clock behind it",
        ("rewards/pool.py", "if end in spoken or worker.deadline <= now]", "if end in spoken]"),
        ("rewards/worker.py", "    faulthandler.dump_traceback_later(2 * job.seconds + 1, exit=True)\n", ""),
        by="rewards/test_faults.py::test_a_fault_costs_its_own_sample_only[hangs-function: timed out after 0.5 s]",
        hangs=30.0,
    ),
    _out(
        20, "killing what a worker has started",
        ("rewards/process.py", "os.killpg(self._process.pid, signal.SIGKILL)", "self._process.kill()"),
        by="rewards/test_faults.py::test_what_a_hung_reward_has_started_dies_with_it",
    ),
    _out(
        20, "a hung worker's own clock",
        ("rewards/worker.py", "    faulthandler.dump_traceback_later(2 * job.seconds + 1, exit=True)\n", ""),
        by="rewards/test_suite.py::test_a_killed_parent_leaves_no_worker[hangs-wrong]",
    ),
    _out(
        21, "refusing NaN and infinity",
        (
            "rewards/base.py",
            'return number if math.isfinite(number) else Fault(f"returned {number}, not a finite number")',
            "return number",
        ),
        ("rewards/suite.py", "if not faults and not math.isfinite(total):", "if total is None:"),
        by="rewards/test_faults.py::test_a_fault_costs_its_own_sample_only",
    ),
    _out(
        21, "None is not 0",
        (
            "rewards/base.py",
            "    if value is None or isinstance(value, str | bytes):\n",
            "    if value is None:\n        return 0.0\n    if isinstance(value, str | bytes):\n",
        ),
        by="rewards/test_faults.py::test_a_fault_costs_its_own_sample_only[none-function: returned None, not a number]",
    ),
    _out(
        21, "the bound on failed samples",
        ("stages/collect.py", "if len(failures) > self.stage.max_failed_share * total:", "if len(failures) > total:"),
        by="pipelines/test_learning.py::test_failed_rewards_are_left_out_and_too_many_stop_the_run",
    ),
    _out(
        21, "failed samples out of the baseline",
        (
            "functional/advantages.py",
            "mean_P1 = above_PG.sum(1, keepdim=True) / count_P1.clamp(min=1)",
            "mean_P1 = above_PG.sum(1, keepdim=True) / valid_PG.shape[1]",
        ),
        by="functional/test_advantages.py::test_by_hand",
    ),
    _out(
        23, "asking others in their place",
        ("stages/quarantine.py", "kept = [prompt for prompt in own if prompt.id not in out]", "kept = list(own)"),
        by="stages/test_quarantine.py::test_in_the_place_of_one_comes_another_and_the_others_keep_their_turn[0]",
    ),
    _out(
        23, "counting in a row only",
        ("stages/quarantine.py", "                failing.pop(name, None)\n", ""),
        by="stages/test_quarantine.py::test_only_failures_of_all_answers_and_in_a_row_count",
    ),
    _out(
        24, "trying a 429 again",
        ("rewards/chat_server.py", "frozenset({408, 409, 425, 429, 500,", "frozenset({408, 409, 425, 500,"),
        by="rewards/test_server_faults.py::test_what_may_pass_is_tried_again_within_bounds[429]",
    ),
    _out(
        24, "the bound on what a server asks for",
        (
            "rewards/chat_server.py",
            "time.sleep(min(_LONGEST_WAIT, backoff if reply.wait is None else reply.wait))",
            "time.sleep(backoff if reply.wait is None else reply.wait)",
        ),
        by="rewards/test_server_faults.py::test_it_waits_as_long_as_the_server_says",
    ),
    _out(
        24, "a reply's own deadline",
        ("rewards/chat_server.py", "if time.monotonic() > ends:", "if ends is None:"),
        by="rewards/test_server_faults.py::test_what_may_pass_is_tried_again_within_bounds[drip]",
    ),
    _out(
        25, "asking once after a 4xx",
        (
            "rewards/chat_server.py",
            'raise JudgeError(f"{self.url} refused with status {status}: {text[:200]}")',
            'return _Failure(f"{self.url} refused with status {status}: {text[:200]}")',
        ),
        by="rewards/test_server_faults.py::test_what_would_fail_again_is_asked_once",
    ),
    _out(
        25, "ending a run whose judge is down",
        ("stages/asking.py", "    if len(failures) > most * total:\n", "    if len(failures) > total:\n"),
        by="stages/test_server_down.py::test_a_judge_that_is_down_ends_the_run_with_the_cause",
    ),
    _out(
        26, "living on with a full disk",
        ("data/journal.py", "if error.errno not in _FULL:", "if error.errno:"),
        by="training/test_metrics.py::test_a_full_disk_warns_once_and_training_goes_on",
    ),
    _out(
        26, "taking half a line back",
        (
            "data/journal.py",
            "            self._file.truncate(before)  # half a line would spoil the next one\n",
            "            pass\n",
        ),
        by="training/test_metrics.py::test_half_a_line_is_taken_back",
    ),
    _out(
        27, "looking for lone surrogates",
        (
            "data/fields.py",
            '            value.encode("utf-8")\n',
            '            value.encode("utf-8", "surrogatepass")\n',
        ),
        by="data/test_sources.py::test_bad_lines_are_refused_with_file_and_line[lone surrogate]",
    ),
    _out(
        27, "each field once",
        ("data/rows.py", ", object_pairs_hook=_each_field_once", ""),
        by="data/test_sources.py::test_bad_lines_are_refused_with_file_and_line[a field twice]",
    ),
    _out(
        27, "each id once",
        ("data/source.py", "            if made.id in places:\n", "            if made.id is None:\n"),
        by="data/test_sources.py::test_bad_lines_are_refused_with_file_and_line[duplicate id]",
    ),
    _out(
        28, "hiding control tokens from the template",
        ("data/chat.py", "return self.control.sub(lambda match: self.hidden[match[0]], content)", "return content"),
        by="data/test_chat.py::test_control_tokens_in_text_stay_text[chatml]",
    ),
    _out(
        28, "taking control tokens apart for a judge",
        ("rewards/fence.py", '    text = _CONTROL.sub(lambda opening: opening[0] + " ", text)\n', ""),
        by="rewards/test_fence.py::test_what_is_taken_apart_and_what_is_left",
    ),
    _out(
        29, "finding whole questions",
        ("data/contamination.py", "        if plain in whole:\n", "        if plain is None:\n"),
        by="data/test_contamination.py::test_it_is_what_a_plain_search_finds",
    ),
    _out(
        29, "telling first of all",
        ("pipelines/run.py", "            if overlap.found:\n", "            if overlap is None:\n"),
        by="pipelines/test_overlap.py::"
        "test_what_is_learned_and_tested_is_told_by_check_first_in_a_run_and_in_the_result",
    ),
    _out(
        30, "trusting no code of a model's",
        (
            "models/loading.py",
            "config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)",
            "config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=True)",
        ),
        by="test_safety.py::test_code_in_a_model_folder_is_never_run[config.json]",
    ),
    _out(
        30, "unpickling nothing",
        (_CHECKPOINT, "_restore(state, load_file(path / _MASTERS),", "_restore(state, torch.load(path / _MASTERS),"),
        by="test_safety.py::test_the_source_runs_nothing_that_comes_from_elsewhere",
    ),
    _out(
        30, "keeping a key out of what a server said",
        ("rewards/chat_server.py", 'text = text.replace(key, "(the key)") if key else text', "text = text or str(key)"),
        by="pipelines/test_secrets.py::test_a_whole_run_folder_holds_no_secret",
    ),
    _out(
        30, "refusing a key in the place of its variable's name",
        ("config/settings.py", '    if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", variable):\n', "    if not variable:\n"),
        ("rewards/chat_server.py", "if variable is not None and not os.environ.get(variable):", 'if variable == "":'),
        by="pipelines/test_secrets.py::test_a_key_in_a_recipe_is_refused_before_a_folder_is_made",
    ),
    _out(
        30, "refusing a key in a server's address",
        (
            "config/settings.py",
            '    if not re.match(r"https?://[^\\s/?#@]+(?:/[^?#@\\s]*)?$", url):\n',
            "    if not url:\n",
        ),
        by="pipelines/test_secrets.py::test_a_key_in_a_recipe_is_refused_before_a_folder_is_made",
    ),
    _out(
        31, "the filter of system calls",
        (_BWRAP, '"--seccomp", str(filtered), ', ""),
        by="sandbox/test_attacks.py::test_no_way_out[keys, perf, bpf, io_uring, userfaultfd-bubblewrap]",
    ),
    _out(
        31, "all of the filter that no self-test asks for",
        (
            "sandbox/seccomp.py",
            "    for numbers in _DENIED.values():\n        number = numbers[column]\n",
            "    for name, numbers in _DENIED.items():\n"
            '        number = numbers[column] if name in ("ptrace", "socket") else None\n',
        ),
        by="sandbox/test_attacks.py::test_no_way_out[keys, perf, bpf, io_uring, userfaultfd-bubblewrap]",
    ),
    _out(
        31, "refusing where none holds",
        ("sandbox/choice.py", "    if _permitted if unsafe is None else unsafe:\n", "    if unsafe is not False:\n"),
        by="sandbox/test_choice.py::test_where_none_holds_nothing_runs",
    ),
    _out(
        31, "the self-test",
        ("sandbox/choice.py", "    if broken:\n", "    if broken is None:\n"),
        by="sandbox/test_choice.py::test_where_none_holds_nothing_runs",
    ),
    _out(
        32, "the cap on processes",
        ("sandbox/contained.py", '        **({"NPROC": limits.processes} if apart else {}),\n', ""),
        by="sandbox/test_attacks.py::test_no_way_out[fork bomb-namespaces]",
    ),
    _out(
        33, "a network of its own",
        (
            _BWRAP,
            '"--unshare-all", "--unshare-user",',
            '"--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-uts",',
        ),
        (_BWRAP, '"--seccomp", str(filtered), ', ""),
        by="sandbox/test_attacks.py::test_no_way_out[tcp to the host-bubblewrap]",
    ),
    _out(
        33, "an empty environment",
        (_BWRAP, '"--die-with-parent", "--clearenv",', '"--die-with-parent",'),
        (
            _BWRAP,
            "supervise(command, program, limits, {}, files)",
            "supervise(command, program, limits, os.environ, files)",
        ),
        by="sandbox/test_attacks.py::test_no_way_out[secrets in the environment-bubblewrap]",
    ),
    _out(
        34, "the bound on output",
        (
            "sandbox/process.py",
            "if len(self.output[name]) > self._limits.output:\n"
            "            self.output[name] = self.output[name][: self._limits.output]\n",
            "if len(self.output[name]) > 64 * self._limits.output:\n",
        ),
        by="sandbox/test_attacks.py::test_no_way_out[500 MB of output-bubblewrap]",
    ),
    _out(
        34, "the bound on the disk",
        (_BWRAP, '"--size", str(limits.disk),', '"--size", str(limits.disk << 8),'),
        by="sandbox/test_attacks.py::test_no_way_out[disk fill-bubblewrap]",
    ),
    _out(
        34, "the bound on memory of many processes",
        (
            "sandbox/process.py",
            "if memory_in_use(family, self._limits.memory) > self._limits.memory:",
            "if not family:",
        ),
        by="sandbox/test_attacks.py::test_no_way_out[memory bomb of many processes-bubblewrap]",
    ),
    _out(
        35, "inputs that no prompt shows",
        ("rewards/code.py", "[*task.cases, *self._drawn(task, prompt)]", "[*task.cases]"),
        by="sandbox/test_hacks.py::test_hard_coded_answers_pass_what_is_shown_and_fail_what_is_not",
    ),
    _out(
        35, "comparing types",
        ("sandbox/comparing.py", "    if type(given) is not type(expected):\n        return False\n", ""),
        by="sandbox/test_values.py::test_other_values_are_not_the_same",
    ),
    _out(
        35, "values of built-in types only",
        ("sandbox/values.py", "    if kind is int:\n", "    if isinstance(value, int):\n"),
        by="sandbox/test_values.py::test_what_is_not_built_in_is_refused",
    ),
    _out(
        36, "nothing that two runs share",
        (
            _BWRAP,
            "            seen += [word for target, path in self._layout.links",
            '            seen += ["--bind", os.environ["TMPDIR"], "/dev/shm"]\n'
            "            seen += [word for target, path in self._layout.links",
        ),
        by="sandbox/test_attacks.py::test_a_run_leaves_nothing_to_the_next[bubblewrap]",
    ),
    _out(
        37, "refusing chains of equations",
        ("rewards/latex.py", "    if _chains(answer, gold):\n", "    if not _chains:\n"),
        by="rewards/test_maths.py::test_what_is_not_equal_is_worth_nothing[42-41=42]",
    ),
    _out(
        37, "refusing before reading",
        (
            "rewards/maths.py",
            "return 0.0 if refusal(answer, gold) else _equal(wanted, answer)",
            "return _equal(wanted, answer)",
        ),
        by="rewards/test_maths.py::test_what_is_not_equal_is_worth_nothing[42-41=42]",
    ),
    _out(
        37, "the maths checker's own second",
        ("rewards/maths.py", "return self.timeout\n", "return 3 * self.timeout\n"),
        by="rewards/test_maths.py::test_what_burns_all_the_same_is_killed_after_a_second_whatever_the_stage_allows",
    ),
    _out(
        38, "knowing master keys",
        (
            "rewards/judging.py",
            'return not regex.search(r"[^\\W_]", _KEYS.sub("", words))',
            'return not regex.search(r"[^\\W_]", words)',
        ),
        by="rewards/test_fence.py::test_master_keys_in_any_dress_say_nothing",
    ),
    _out(
        38, "the fence around an answer",
        ("rewards/fence.py", '    return _BORDER.sub("> ", text)', "    return text"),
        by="rewards/test_swayed_judge.py::test_an_answer_never_gets_out_of_its_fence",
    ),
    _out(
        38, "asking a reward with master keys",
        (
            "rewards/adversaries.py",
            'yield from (Answer("master key", key, key) for key in (*MASTER_KEYS, *MASTER_KEYS_ELSEWHERE))',
            "yield from ()",
        ),
        by="rewards/test_audit.py::test_a_gullible_reward_is_found_out",
    ),
)  # fmt: skip
