"""llama-server's options as data: canonical names by kind, other spellings, negatives, and what can't be set through an API.

A canonical name is the long flag with underscores (``ctx_size`` for ``--ctx-size``). The table holds the names of llamactl
and those of newer llama-servers; which of them the binary at hand knows is another question (see `binary.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

Kind = Literal["flag", "int", "float", "text", "list", "switch", "layers"]

_NAMES: Mapping[Kind, str] = {
    "flag": """
        agent backend_sampling cache_idle_slots cache_prompt check_tensors cont_batching context_shift cors_credentials cpu_moe
        cpu_moe_draft direct_io dump_kv_cache embd_bge_small_en_default embd_e5_small_en_default embd_gemma_default
        embd_gte_small_default embedding escape fim_qwen_14b_spec fim_qwen_1_5b_default fim_qwen_30b_default fim_qwen_3b_default
        fim_qwen_7b_default fim_qwen_7b_spec gpt_oss_120b_default gpt_oss_20b_default ignore_eos jinja kv_offload kv_unified
        log_disable log_jsonl log_prefix log_timestamps lora_init_without_apply metrics mlock mmap mmproj_auto mmproj_offload
        models_autoload no_agent no_cache_idle_slots no_cache_prompt no_cont_batching no_context_shift no_cors_credentials
        no_direct_io
        no_escape no_host no_jinja no_kv_offload no_kv_unified no_log_jsonl no_log_prefix no_log_timestamps no_mmap no_mmproj
        no_mmproj_auto no_mmproj_offload no_models_autoload no_op_offload no_perf no_prefill_assistant no_reasoning_preserve
        no_repack no_skip_chat_parsing no_slots no_spec_draft_backend_sampling no_ui_mcp_proxy no_warmup no_webui offline
        op_offload perf prefill_assistant props reasoning_preserve repack reranking reuse_port skip_chat_parsing slots
        spec_default spec_draft_backend_sampling special spm_infill swa_full tts_use_guide_tokens ui_mcp_proxy verbose
        verbose_prompt vision_gemma_12b_default vision_gemma_4b_default warmup webui
    """,
    "int": """
        batch_size cache_ram cache_reuse checkpoint_min_step cpu_strict cpu_strict_batch cpu_strict_batch_draft
        cpu_strict_draft ctx_checkpoints ctx_size ctx_size_draft draft_max draft_min dry_allowed_length dry_penalty_last_n
        embd_normalize fit_ctx image_max_tokens image_min_tokens keep kv_unified_per_slot main_gpu mirostat models_max
        mtmd_batch_max_tokens n_cpu_ffn n_cpu_moe n_cpu_moe_draft parallel poll poll_batch poll_batch_draft poll_draft port
        predict prio prio_batch prio_batch_draft prio_draft reasoning_budget repeat_last_n seed sleep_idle_seconds
        spec_draft_n_max spec_draft_n_min spec_ngram_map_k4v_min_hits spec_ngram_map_k4v_size_m spec_ngram_map_k4v_size_n
        spec_ngram_map_k_min_hits spec_ngram_map_k_size_m spec_ngram_map_k_size_n spec_ngram_min_hits spec_ngram_mod_n_match
        spec_ngram_mod_n_max spec_ngram_mod_n_min spec_ngram_simple_min_hits spec_ngram_simple_size_m spec_ngram_simple_size_n
        spec_ngram_size_m spec_ngram_size_n sse_ping_interval threads threads_batch threads_batch_draft threads_draft
        threads_http timeout top_k ubatch_size verbosity video_timestamp_interval yarn_orig_ctx
    """,
    "float": """
        adaptive_decay adaptive_target defrag_thold draft_p_min draft_p_split dry_base dry_multiplier dynatemp_exp
        dynatemp_range frequency_penalty min_p mirostat_ent mirostat_lr presence_penalty repeat_penalty rope_freq_base
        rope_freq_scale rope_scale slot_prompt_similarity spec_ngram_check_rate spec_synth_len temp top_nsigma top_p typical
        video_fps xtc_probability xtc_threshold yarn_attn_factor yarn_beta_fast yarn_beta_slow yarn_ext_factor
    """,
    "text": """
        alias api_key api_key_file api_prefix cache_type_k cache_type_k_draft cache_type_v cache_type_v_draft chat_template
        chat_template_file chat_template_kwargs control_vector_layer_range cors_headers cors_methods cors_origins cpu_mask
        cpu_mask_batch cpu_mask_batch_draft cpu_mask_draft cpu_range cpu_range_batch cpu_range_draft device device_draft
        docker_repo fit_target grammar grammar_file hf_file hf_file_v hf_repo hf_repo_draft hf_repo_v hf_token host
        json_schema json_schema_file lazy_mode load_mode log_file log_prompts_dir lookup_cache_dynamic lookup_cache_static
        mcp_servers_config mcp_servers_json media_path mmproj mmproj_device mmproj_url model model_draft model_url
        model_vocoder models_dir models_preset numa path pooling reasoning_budget_message reasoning_effort reasoning_format
        reverse_prompt rope_scaling rpc samplers sampling_seq slot_save_path spec_replace spec_synth_rates spec_type
        split_mode ssl_cert_file ssl_key_file tags tensor_split tools tools_runtime video_ffmpeg_dir webui_config
        webui_config_file
    """,
    "list": """
        control_vector control_vector_scaled dry_sequence_breaker logit_bias lora lora_scaled override_kv override_tensor
        override_tensor_draft
    """,
    "switch": "fit flash_attn log_colors reasoning",
    "layers": "gpu_layers gpu_layers_draft",
}
KINDS: Mapping[str, Kind] = {name: kind for kind, names in _NAMES.items() for name in names.split()}

_ALIASES = """
    t threads, tb threads_batch, C cpu_mask, Cr cpu_range, Cb cpu_mask_batch, Crb cpu_range_batch, c ctx_size, n predict,
    n_predict predict, b batch_size, ub ubatch_size, fa flash_attn, e escape, kvo kv_offload, nkvo no_kv_offload, nr no_repack,
    ctk cache_type_k, ctv cache_type_v, dt defrag_thold, dio direct_io, ndio no_direct_io, dev device, ot override_tensor,
    cmoe cpu_moe, ncmoe n_cpu_moe, ncffn n_cpu_ffn, ngl gpu_layers, n_gpu_layers gpu_layers, sm split_mode, ts tensor_split,
    mg main_gpu, fitt fit_target, fitc fit_ctx, m model, mu model_url, dr docker_repo, hf hf_repo, hfr hf_repo,
    hfd hf_repo_draft, hfrd hf_repo_draft, hff hf_file, hfv hf_repo_v, hfrv hf_repo_v, hffv hf_file_v, hft hf_token, v verbose,
    log_verbose verbose, lv verbosity, log_verbosity verbosity, ctkd cache_type_k_draft, ctvd cache_type_v_draft, s seed,
    sampler_seq sampling_seq, l logit_bias, j json_schema, jf json_schema_file, bs backend_sampling,
    swa_checkpoints ctx_checkpoints, ctxcp ctx_checkpoints, cms checkpoint_min_step, cram cache_ram, lcs lookup_cache_static,
    lcd lookup_cache_dynamic, kvu kv_unified, no_kvu no_kv_unified, r reverse_prompt, sp special, np parallel,
    cb cont_batching, nocb no_cont_batching, mm mmproj, mmu mmproj_url, mmdev mmproj_device, otd override_tensor_draft,
    cmoed cpu_moe_draft, ncmoed n_cpu_moe_draft, a alias, embeddings embedding, rerank reranking, to timeout,
    sps slot_prompt_similarity, td threads_draft, tbd threads_batch_draft, draft draft_max, draft_n draft_max,
    draft_n_min draft_min, cd ctx_size_draft, devd device_draft, ngld gpu_layers_draft, n_gpu_layers_draft gpu_layers_draft,
    md model_draft, mv model_vocoder, fim_qwen_1 fim_qwen_1_5b_default, fim_qwen_1b fim_qwen_1_5b_default, lm load_mode,
    lzm lazy_mode, rea reasoning, temperature temp, typical_p typical, top_n_sigma top_nsigma, Cd cpu_mask_draft,
    Crd cpu_range_draft, Cbd cpu_mask_batch_draft, spec_draft_model model_draft, spec_draft_hf hf_repo_draft,
    spec_draft_threads threads_draft, spec_draft_threads_batch threads_batch_draft, spec_draft_cpu_mask cpu_mask_draft,
    spec_draft_cpu_range cpu_range_draft, spec_draft_cpu_strict cpu_strict_draft, spec_draft_prio prio_draft,
    spec_draft_poll poll_draft, spec_draft_cpu_mask_batch cpu_mask_batch_draft, spec_draft_prio_batch prio_batch_draft,
    spec_draft_cpu_strict_batch cpu_strict_batch_draft, spec_draft_poll_batch poll_batch_draft,
    spec_draft_override_tensor override_tensor_draft, spec_draft_cpu_moe cpu_moe_draft, spec_draft_n_cpu_moe n_cpu_moe_draft,
    spec_draft_ncmoe n_cpu_moe_draft, spec_draft_p_split draft_p_split, spec_draft_p_min draft_p_min,
    spec_draft_device device_draft, spec_draft_ngl gpu_layers_draft, spec_draft_type_k cache_type_k_draft,
    spec_draft_type_v cache_type_v_draft, ui webui, no_ui no_webui, ui_config webui_config,
    ui_config_file webui_config_file, webui_mcp_proxy ui_mcp_proxy, no_webui_mcp_proxy no_ui_mcp_proxy
"""
ALIASES: Mapping[str, str] = dict(re.findall(r"(\w+) (\w+)", _ALIASES))

FLAGS: Mapping[str, str] = {"fim_qwen_1_5b_default": "--fim-qwen-1.5b-default"}
"""The flags that are not the canonical name with hyphens."""

NEGATIVES: Mapping[str, str] = {
    name.removeprefix("no_"): name for name in KINDS if name.startswith("no_") and name.removeprefix("no_") in KINDS
}
"""The option that says false, for each that has one: ``--jinja`` and ``--no-jinja``."""

FILES: Mapping[str, Literal["file", "scaled", "folder"]] = {
    **dict.fromkeys(
        (
            "api_key_file", "chat_template_file", "control_vector", "grammar_file", "json_schema_file", "lookup_cache_dynamic",
            "lookup_cache_static", "lora", "mmproj", "model", "model_draft", "model_vocoder", "webui_config_file",
        ),
        "file",
    ),
    **dict.fromkeys(("lora_scaled", "control_vector_scaled"), "scaled"),
    **dict.fromkeys(("log_prompts_dir", "media_path", "models_dir", "path", "slot_save_path"), "folder"),
}  # fmt: skip
"""The options that make llama-server read or write files: their values are held against ``llama_server.model_dirs``."""

SECRETS = frozenset({"api_key", "hf_token"})

_COMMANDS = "it would let llama-server run commands or reach other hosts on a caller's word"
_ADDRESS = "the child would connect wherever it says: fetch the file into a model folder and name it in model"
_OURS = "paddock and its instances talk plain HTTP on the loopback, and paths are passed on as they come"
REFUSED: Mapping[str, str] = {
    **dict.fromkeys(("agent", "mcp_servers_config", "mcp_servers_json", "rpc", "tools", "tools_runtime"), _COMMANDS),
    **dict.fromkeys(("ui_mcp_proxy", "video_ffmpeg_dir"), _COMMANDS),
    **dict.fromkeys(("model_url", "mmproj_url"), _ADDRESS),
    **dict.fromkeys(("api_prefix", "ssl_cert_file", "ssl_key_file"), _OURS),
    "log_file": "paddock keeps the log itself: read it with GET …/logs",
    "models_preset": "the file could set every option unseen: set them one by one",
    "reuse_port": "paddock makes sure that nobody else listens on an instance's port",
    "host": "paddock chooses the address: see the setting llama_server.host",
    "port": "an instance's port stands beside its options, not in extra_args",
}
"""The options that can't be set, with the reason. `host` and `port` are read before (`bodies.py`) where they may stand."""
