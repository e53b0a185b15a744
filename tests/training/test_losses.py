import torch

from respike.training.losses import half_squared_error


def test_half_squared_error_by_hand():
    outputs = torch.tensor([[0.5, 0.0], [1.0, 2.0]])
    loss = half_squared_error(outputs, torch.tensor([0, 1]))
    assert loss.item() == 0.5 * ((0.25 + 0.0) + (1.0 + 1.0)) / 2


def test_its_gradient_is_the_output_error_over_the_batch():
    outputs = torch.rand(5, 3, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 1, 2, 0, 1])
    half_squared_error(outputs, labels).backward()
    error = outputs.detach() - torch.eye(3, dtype=torch.float64)[labels]
    torch.testing.assert_close(outputs.grad, error / 5)
