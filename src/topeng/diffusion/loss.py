"""The loss of supervised fine-tuning (LLaDA, arXiv 2502.09992, eq. 5 and its SFT guideline)."""

from torch import Tensor
from torch.nn import functional


def sft_loss(logits: Tensor, clean_ids: Tensor, masked: Tensor, p: Tensor, response_length: Tensor) -> Tensor:
    """Cross-entropy on masked positions over p; per row over its response length; the mean over rows.

    The plain oracle over full logits that the chunked loss of training is tested against.

    Args:
        logits: [B, T, V], aligned with the input.
        clean_ids: [B, T] before noise.
        masked: bool [B, T], where a token was masked.
        p: [B] masking probability of each row.
        response_length: [B] tokens, appended end tokens counted.

    Returns:
        A scalar, in nats.
    """
    token_nll = functional.cross_entropy(logits.float().transpose(1, 2), clean_ids, reduction="none")  # [B, T]
    row_loss = (token_nll * masked).sum(dim=1) / p / response_length
    return row_loss.mean()


def loss_weights(masked: Tensor, p: Tensor, response_length: Tensor, rows: int | Tensor) -> Tensor:
    """[N] factor of each masked position, row by row, with which summed cross-entropy becomes `sft_loss`.

    Args:
        rows: of the global batch, over ranks and accumulation steps.
    """
    row_weight = 1 / (p * response_length * rows)  # [B]
    return row_weight[:, None].expand(masked.shape)[masked]
